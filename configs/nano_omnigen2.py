"""Trains a small, real OmniGen2 with SGT from scratch, with no download.

Command:   python -m sgt_jax.main --config=configs/nano_omnigen2.py --workdir=/tmp/nano_omnigen2
Hardware:  2 CPU cores, 3 GB of memory; 14 minutes on idle ones.
Reaches:   answers 56 % (majority 34), masks with a mIoU of 72 % and a panoptic quality of 73 % (best constant mask 31 and 5);
           docs/results.md has the table.

The second family at the size of configs/nano.py, with the same tokenizer and autoencoder: Qwen2.5-VL's architecture reads a
32x32 picture in patches of 4 and answers questions; its states are all that the diffusion transformer sees of the picture
when it paints the segmentation. Both are trained at once, as in the SGT release.

A fresh transformer cannot yet read from those states where something is. So the first steps are lessons: it paints the
photo itself, in which every patch says whether it was read from the right place, and questions are of three kinds. Then
masks take the photo's place, and all kinds are asked.
"""

import ml_collections
from sgt_jax.configs import nano, nano_sgt

SIZE = nano.SIZE
discs = nano_sgt.discs  # two or three, called by their colours: no question can be answered without the picture
FIRST = ("exists", "count", "quadrant")  # kinds of questions in the lessons
KINDS = (*FIRST, "left_right", "above_below", "leftmost", "highest")
LESSONS = 600  # steps of them
SHIFT = 10.0  # of sampling times: a multiple of what 32x32 pixels ask for (0.2), so that half of the steps are near noise


def model() -> dict:
    """OmniGen2's architecture at width 128; the fields carry the names of its own config files."""
    return dict(
        dit=dict(
            patch_size=2,  # latents a token: 8 pixels, so a picture is 4x4 tokens
            in_channels=4,
            out_channels=None,
            hidden_size=128,
            num_layers=3,
            num_refiner_layers=1,
            num_attention_heads=4,
            num_kv_heads=2,
            multiple_of=32,
            ffn_dim_multiplier=0.75,
            norm_eps=1e-5,
            axes_dim_rope=(8, 12, 12),
            axes_lens=(1024, 1664, 1664),
            text_feat_dim=128,
            timestep_scale=1000.0,
        ),
        text=dict(
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=128,  # of assets/nano/tokenizer.json
            rms_norm_eps=1e-6,
            # Frequencies fall from time over rows to columns. With the release's 1e6 neighbouring columns would be 0.0002
            # radians apart; here they are 0.3. Half of the frequencies stay below 0.02: with fast ones alone
            # (base 10) a question could not find what it asks for: answers about pictures stayed at chance for 800 steps.
            rope_theta=1000.0,
            mrope_section=(1, 2, 13),
            tie_word_embeddings=True,
            initializer_range=0.1,
        ),
        vision=dict(
            depth=2,
            hidden_size=64,
            num_heads=2,
            intermediate_size=192,
            out_hidden_size=128,
            in_channels=3,
            patch_size=4,
            temporal_patch_size=2,
            spatial_merge_size=2,  # 8 pixels a token of the language model
            window_size=16,
            fullatt_block_indexes=(1,),
            tokens_per_second=2,
        ),
        vae=nano.nano_vae(),
        tokens=dict(
            im_start_token_id=1, im_end_token_id=2, pad_token_id=0, vision_start_token_id=3, vision_end_token_id=4,
            image_token_id=0, video_token_id=0, img_token_id=0,
        ),  # fmt: skip
        template="bare",  # the small vocabulary lacks the words of the official one
        min_pixels=64,
        max_pixels=SIZE * SIZE,
        # How the fresh model begins; docs/results.md says what this does.
        residual_init=0.02,
        merger_init=3.0,
        freeze_mllm=False,
        scan_layers=False,
        remat="none",
        attention="auto",
        attention_block=64,
        dtype="float32",
    )


def painting(steps: int, text_scale: float, condition: str) -> dict:
    """How pictures of one mode are painted; see models/omnigen2/guidance.py."""
    guidance = dict(text_scale=text_scale, image_scale=1.0, low=0.0, high=1.0, negative="", solver="euler")
    return dict(steps=steps, shift=SHIFT, guidance=guidance, condition=condition)


def get_config() -> ml_collections.ConfigDict:
    """The experiment; see configs/nano.py for the fields that are not explained here."""
    c = nano.get_config()
    c.name = "nano_omnigen2"
    c.family = "omnigen2"
    c.total_steps = 1_700
    c.model = ml_collections.ConfigDict(model())

    # -- Objective: means over the whole step, as configs/omnigen2_sgt.py.
    c.objective.reference_scaling = False
    # Nothing here has references: their modules would only decay.
    c.freeze = ("^vae/", "ref_image", "image_index_embedding")

    # -- Optimizer: a fresh transformer predicts zeros, and what opens its gates are biases, which AdamW moves.
    c.optimizer.learning_rate = 2e-3
    c.schedule = dict(name="warmup_stable_decay", warmup_steps=50, decay_fraction=0.3, final_fraction=0.0)

    # -- Data.
    c.data.sources = ml_collections.ConfigDict(
        dict(
            lessons=discs(FIRST, seed=1, split="train", num=30_000, turns=6),
            train=discs(KINDS, seed=0, split="train", num=30_000, turns=6),
            held_out=discs(KINDS, seed=0, split="test", num=4_000, turns=1),
            held_out_all=discs(KINDS, seed=0, split="validation", num=2_000, turns=6),
        )
    )
    # Shares in samples: painting (the photo, then its masks) : understanding : text-to-picture = 2 : 2 : 1.
    m = c.data.mixture
    m.proxy.weight, m.understanding.weight, m.text_to_image.weight = 2.0, 2.0, 1.0
    m.photo = dict(m.proxy.to_dict(), proxy="reconstruction", options={})
    m.lessons = dict(m.understanding.to_dict(), source="lessons")
    c.data.stages = (
        dict(steps=LESSONS, weights=dict(proxy=0.0, understanding=0.0)),
        dict(weights=dict(photo=0.0, lessons=0.0)),
    )
    c.data.rows = 8  # more steps teach more than larger ones
    # Slots per row and lane: two conversations, two paintings, a drawing.
    c.data.budgets = {
        "und": 272, "vit": 256, "labels": 24, "text": 96, "gen": 48, "flow": 3, f"pixels:{SIZE}x{SIZE}": 3,
    }  # fmt: skip
    c.data.pool_size = 16
    c.data.on_bad = "skip"  # a few scenes fit no question of the kinds

    # -- Evaluation.
    c.evaluate_every = 1_000
    e = c.evaluators
    del e.loss  # of the lessons and what follows them together
    e.answers.on_bad = "skip"
    e.masks.n = e.drawings.n = 256
    for name in ("masks", "drawings"):
        e[name].shift = SHIFT
        e[name].show = 12
    c.sampling = dict(
        t2i=painting(8, 3.0, "both"),
        edit=painting(8, 3.0, "mllm"),
        segment=painting(4, 1.0, "mllm"),
        palette="distinct",
    )
    return c
