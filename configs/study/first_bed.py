"""What configs/nano_sgt.py was when the first six studies ran on it: their bed, which stands still.

The finished studies (proxies, ratio, scaling, convergence, recipe, baselines) import this file, and their recorded runs carry
fingerprints of these settings; configs/nano_sgt.py may go on. docs/results/first_bed.md says why this bed could not tell.
"""

import ml_collections
from sgt_jax.configs import nano, nano_pretrain

SIZE = nano.SIZE
scenes = nano_pretrain.scenes


def evaluators(share: float = 1.0) -> dict:
    """The paper's groups of scores on scenes never trained on; `share` of the full number of items."""

    def n(full: int) -> int:
        return max(int(full * share), 2)

    drawn = dict(shift=2.0, steps=8, batch=64, seed=1, show=8)
    return dict(
        answers=dict(type="answers", source="held_out", n=n(2_000), train_source="asked", train_n=n(2_000),
                     max_new_tokens=3, batch=200),
        pope=dict(type="hallucination", source="held_out", n=n(150), train_source="asked", train_n=n(2_000),
                  per_picture=3, seed=0, max_new_tokens=2, batch=200),
        prompts=dict(type="prompts", source="held_out", n=n(50), max_count=4, text_scale=3.0, **drawn),
        edits=dict(type="edits", source="held_out_edits", n=n(150), see=False, text_scale=1.5, **drawn),
        masks=dict(type="masks", source="held_out", n=n(150), train_source="asked", train_n=n(64), text_scale=1.0,
                   palette="distinct", max_masks=8, proxy_options=dict(palette="distinct", style="plain"),
                   **(drawn | dict(steps=4))),
    )  # fmt: skip


def get_config() -> ml_collections.ConfigDict:
    """The experiment; see configs/nano.py for the fields that are not explained here."""
    c = nano_pretrain.get_config()
    c.name = "nano_sgt"
    c.total_steps = 400
    c.init_from = "package:nano"
    c.vae_from = ""  # part of that folder

    # -- Optimizer: rates of pretraining, or masks come too late (docs/results.md tells the pilot); replay protects the rest.
    c.schedule = dict(name="warmup_stable_decay", warmup_steps=20, decay_fraction=0.3, final_fraction=0.0)
    c.ema_decay = 0.98

    c.data.stages = ()  # not those of pretraining

    # -- Data: scenes that pretraining has not seen. Proxy : understanding : replay = 6 : 4 : 3, in samples.
    c.data.sources = ml_collections.ConfigDict(
        dict(
            asked=scenes(seed=20, split="train", num=30_000, turns=6),
            painted=scenes(seed=21, split="train", num=30_000, turns=0),
            drawn=scenes(seed=22, split="train", num=30_000, turns=0, colourless=0.3),
            edited=scenes(seed=23, split="train", num=30_000, turns=0, edits=nano_pretrain.EDITS),
            held_out=scenes(seed=20, split="test", num=4_000, turns=1),
            held_out_edits=scenes(seed=23, split="test", num=2_000, turns=0, edits=nano_pretrain.EDITS),
        )
    )
    c.data.mixture = ml_collections.ConfigDict(
        dict(
            proxy=dict(source="painted", task="proxy", proxy="segmentation", weight=6.0,
                       options=dict(style="plain"), latents=False, photo_as_target=False, tokenised="", vit_size={}),
            understanding=dict(source="asked", task="understanding", weight=4.0, vit_size={}),
            text_to_image=dict(source="drawn", task="text_to_image", weight=2.0),
            editing=dict(source="edited", task="editing", see=False, joined_rate=0.5, weight=1.0, vit_size={}),
        )
    )  # fmt: skip
    c.data.budgets = {"und": 168, "vit": 48, "gen": 48, "labels": 12, f"pixels:{SIZE}x{SIZE}": 3}

    c.evaluate_at_start = True  # the pretrained model is what the tuned one is compared with
    c.evaluate_every = 10_000
    c.evaluators = ml_collections.ConfigDict(evaluators())
    c.sampling = dict(
        t2i=nano.painting(8, 2.0, text_scale=3.0),
        edit=nano.painting(8, 2.0, text_scale=1.5),
        segment=nano.painting(4, 2.0, text_scale=1.0),
        palette="distinct",
    )
    c.cpu_devices = 1
    c.log_every = 20
    c.checkpoint = dict(every=100, keep=1)
    return c
