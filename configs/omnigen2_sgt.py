"""Post-trains OmniGen2 with SGT: paints SAM-SGT photos as segmentation maps and answers LLaVA-OneVision questions.

Commands, in the folder that holds data/ and checkpoints/ (docs/data.md says what is in them):

    python -m sgt_jax tokenize --config=configs/omnigen2_sgt.py      # encode the targets once
    python -m sgt_jax.main --config=configs/omnigen2_sgt.py --workdir=runs/omnigen2_sgt

Hardware:  8 devices with one pack each. Parameters and both Adam moments in float32 take 93 GB over all devices.
Reaches:   we have not run it at this size.
Variants:  :v5p_2x2x1 :v6e_4x4 :v5e_8x8 :8xh200 :1xh200_lora :1x80gb_lora :1x24gb_lora
                    hardware: a row per chip, mesh, attention kernel; _lora trains adapters, of both models or of the
                    diffusion transformer alone, with 8 packs a step, one after the other (docs/adapters.md);
                    :1x24gb_lora keeps the frozen weights as 8-bit integers
           :frozen  the language model keeps its weights and takes no optimizer state, as the project page says
           :edits   upstream's task: edits with reference latents, and no pictures in the prompt
           :reference_scaling
                    losses as the reference scales them, in micro-batches of generation, generation, answers
           :benchmarks  MMVP and POPE at every evaluation, from data/benchmarks (docs/benchmarks.md)
           :local   the same steps with toy sizes on a CPU, from the seed
           Variants can be combined: configs/omnigen2_sgt.py:local+frozen

Paper, project page and released code contradict each other in places; comments mark our choices with DISAGREEMENT.
"""

import ml_collections
from sgt_jax.configs import bagel_7b_sgt

TPUS = {"v5p_2x2x1": 4, "v6e_4x4": 16, "v5e_8x8": 64}
# More devices than divide a width of 2520: kernels are cut along both of their dimensions.
MESHES = {"v6e_4x4": dict(fsdp=8, fsdp_transpose=2), "v5e_8x8": dict(fsdp=8, fsdp_transpose=8)}
GPUS = {"8xh200": 8, "1xh200_lora": 1, "1x80gb_lora": 1, "1x24gb_lora": 1}
# Adapters on one device (rank, targets, base_dtype): of both models, or of the diffusion transformer.
ADAPTERS = {"1xh200_lora": (32, "both", ""), "1x80gb_lora": (64, "gen", ""), "1x24gb_lora": (32, "gen", "int8")}
VARIANTS = ("benchmarks", "frozen", "edits", "reference_scaling", "local", *TPUS, *GPUS)
HELD_OUT = bagel_7b_sgt.HELD_OUT


def dit() -> dict:
    """The diffusion transformer (transformer/config.json)."""
    return dict(
        patch_size=2,
        in_channels=16,
        out_channels=None,
        hidden_size=2520,
        num_layers=32,
        num_refiner_layers=2,
        num_attention_heads=21,  # of size 120
        num_kv_heads=7,
        multiple_of=256,
        ffn_dim_multiplier=None,
        norm_eps=1e-5,
        axes_dim_rope=(40, 40, 40),
        axes_lens=(1024, 1664, 1664),  # bounds the reference's tables; ours have no end
        text_feat_dim=2048,
        timestep_scale=1000.0,
    )


def mllm() -> dict:
    """Qwen2.5-VL-3B (mllm/config.json): language model, vision tower, special tokens."""
    return dict(
        text=dict(
            hidden_size=2048,
            intermediate_size=11008,
            num_hidden_layers=36,
            num_attention_heads=16,
            num_key_value_heads=2,
            vocab_size=151936,
            rms_norm_eps=1e-6,
            rope_theta=1e6,
            mrope_section=(16, 24, 24),
            tie_word_embeddings=True,
            initializer_range=0.02,
        ),
        vision=dict(
            depth=32,
            hidden_size=1280,
            num_heads=16,
            intermediate_size=3420,
            out_hidden_size=2048,
            in_channels=3,
            patch_size=14,
            temporal_patch_size=2,
            spatial_merge_size=2,
            window_size=112,
            fullatt_block_indexes=(7, 15, 23, 31),
            tokens_per_second=2,
        ),
        tokens=dict(
            im_start_token_id=151644,
            im_end_token_id=151645,
            pad_token_id=151643,
            vision_start_token_id=151652,
            vision_end_token_id=151653,
            image_token_id=151655,
            video_token_id=151656,
            img_token_id=151665,
        ),
    )


def model() -> dict:
    """OmniGen2. Only for planning and for runs without `init_from`: a published folder brings its own sizes."""
    return dict(
        dit=dit(),
        **mllm(),
        # FLUX.1's autoencoder (vae/): 8 pixels a latent.
        vae=dict(ch=128, ch_mult=(1, 2, 4, 4), num_res_blocks=2, z_channels=16, scale_factor=0.3611,
                 shift_factor=0.1159, norm_groups=32),
        template="official",  # "bare": marks alone, for small vocabularies
        min_pixels=256 * 28 * 28,  # of pictures in the prompt
        max_pixels=1280 * 28 * 28,
        freeze_mllm=False,  # True cuts the gradient between the two models
        scan_layers=True,  # one layer of each stack is compiled
        remat="full",  # keep layer inputs only; the reference recomputes the transformer's joint layers alone
        attention="blockwise",
        attention_block=512,
        dtype="bfloat16",  # of matmul inputs; masters, times, noisy latents, norms, softmax and losses stay float32
    )  # fmt: skip


def painting(steps: int, text_scale: float, condition: str, **guidance) -> dict:
    """How pictures of one mode are painted; see models/omnigen2/guidance.py."""
    plain = dict(text_scale=text_scale, image_scale=1.0, low=0.0, high=1.0, negative="", solver="euler")
    return dict(steps=steps, shift=1.0, guidance=plain | guidance, condition=condition)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The experiment; `variant` is one of VARIANTS or several joined by "+". configs/nano.py explains more fields."""
    variants = [v for v in variant.split("+") if v]
    if unknown := [v for v in variants if v not in VARIANTS]:
        raise ValueError(f"no variant {', '.join(unknown)} of this config; there are {', '.join(VARIANTS)}")
    c = ml_collections.ConfigDict()
    c.name = "omnigen2_sgt"
    c.family = "omnigen2"
    c.seed = 2233  # of noise, times and condition dropout
    # DISAGREEMENT: configured for 5,000 steps; the export script names steps 2,000 to 2,500.
    c.total_steps = 5_000
    c.model = model()
    c.init_from = "checkpoints/OmniGen2"  # the published pipeline folder; sizes come from it
    c.init_base = ""  # the OmniGen2 folder, if init_from lacks a part
    c.init_strip_prefix = ""  # BAGEL's alone: the prefixes of OmniGen2's trainer are known and taken off
    c.vae_from = ""  # the autoencoder comes with init_from

    # -- Objective: means over the whole step. DISAGREEMENT: the reference multiplies its generation loss by the number of
    # micro-batches, so that its 2:1 is 60:1; variant reference_scaling does that, too.
    c.objective = dict(name="sgt", ce_weight=1.0, mse_weight=1.0, ce_loss_reweighting=False, reference_scaling=False)
    # DISAGREEMENT: the page freezes the language model, the code trains all of it, and so do we; see variant frozen.
    # Without references their modules would only decay, so they are left alone.
    c.freeze = ("^vae/", "ref_image", "image_index_embedding")
    # Adapters: small changes of linear layers, trained instead of the model, which is then frozen (docs/adapters.md).
    c.adapter = dict(
        rank=0,  # of every adapter; 0 trains the model itself. Usual: 64 for "gen", 32 for "both", at learning rate 1e-4
        alpha=0.0,  # what an adapter computes is multiplied with alpha / rank; 0: alpha is twice the rank
        targets="gen",  # the attention of the diffusion transformer; "und": the language model's projections; "both"; or a
        # regular expression for the names of modules in the published weights
        dropout=0.0,  # of the adapters' input
        rslora=False,  # True: alpha / sqrt(rank)
        base_dtype="",  # of the frozen weights: "float32", "bfloat16"; "int8": of projections; "": model.dtype
    )
    c.accumulate = 1

    # -- Optimizer.
    c.optimizer = dict(name="adamw", learning_rate=5e-6, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.01, clip=1.0,
                       muon_learning_rate=0.02, muon_momentum=0.95)  # fmt: skip
    # The reference's first two steps have rate 0: delay_steps=1.
    c.schedule = dict(name="constant", warmup_steps=300, delay_steps=0, decay_fraction=0.2, final_fraction=0.0)
    c.ema_decay = 0.0  # as in the reference
    c.max_nonfinite = 5

    # -- Data.
    c.data = dict(
        seed=2233,
        tokenizer="checkpoints/OmniGen2/processor",
        sources=dict(
            sam=dict(type="records", root="data/records/sam_sgt", skip=HELD_OUT),
            sam_held_out=dict(type="records", root="data/records/sam_sgt", limit=HELD_OUT),
            llava=dict(type="records", root="data/records/llava_onevision", skip=HELD_OUT),
            llava_held_out=dict(type="records", root="data/records/llava_onevision", limit=HELD_OUT),
        ),
        # Shares are in samples of the stream: exactly 2:1, whatever a sample weighs.
        mixture=dict(
            segmentation=dict(
                source="sam",
                task="proxy",
                proxy="segmentation",
                weight=2.0,
                # The reference's Lanczos invents colours at borders. palette="": the proxy's default.
                options=dict(style="general", resize="nearest", palette=""),
                latents=False,  # the transformer sees the photo through the language model alone
                photo_as_target=False,
                vit_size={},
                tokenised="data/tokenised/omnigen2_segmentation",
            ),
            understanding=dict(source="llava", task="understanding", weight=1.0, vit_size={}),
        ),
        target_size=dict(stride=16, min_size=16, max_size=2048, max_pixels=1024**2, rule="floor"),
        canvases=(),  # none: targets are tokenised
        vit_size=dict(stride=28, min_size=448, max_size=1260, max_pixels=1280 * 28 * 28),
        dropout=dict(text=0.1, vit_image=0.0, vae_image=0.0),  # the reference in effect drops nothing
        rows=8,
        # Slots per row and lane: two segmentations and a conversation.
        budgets={"und": 4_608, "vit": 15_360, "labels": 1_024, "text": 3_072, "gen": 8_192, "flow": 4},
        pool_size=48,
        read_threads=16,
        prefetch=4,
        stages=(),
        on_bad="skip",
    )

    # -- Evaluation: pictures and the held-out loss; `python -m sgt_jax evaluate` scores benchmarks on a checkpoint.
    c.evaluate_at_start = True
    c.evaluate_weights = "params"
    c.evaluate_every = 1_000
    c.evaluators = bagel_7b_sgt.evaluators(steps=50, shift=1.0, text_scale=1.0)

    # -- The scripts' settings. `segment` conditions as training does, `edit` as the pipeline.
    c.sampling = dict(
        t2i=painting(50, 4.0, "both", negative="official"),
        edit=painting(50, 5.0, "latents", image_scale=2.0, negative="official"),
        segment=painting(50, 1.0, "mllm"),
        palette="",
    )

    # -- Running.
    c.mesh = dict(data=1, fsdp=-1, fsdp_transpose=1, tensor=1, context=1)
    c.platform = ""
    c.cpu_devices = 0
    c.compilation_cache = ""
    c.log_every = 10
    c.checkpoint = dict(every=250, keep=2)
    c.profile = ()
    c.report = True
    c.compare = ""
    _apply(c, variants)
    return c


def _apply(c: ml_collections.ConfigDict, variants: list[str]) -> None:
    """Changes the config for its variants."""
    for name in variants:
        if name in TPUS | GPUS:
            c.data.rows = (TPUS | GPUS)[name]
        if name in TPUS:
            c.model.attention, c.model.attention_block = "tpu", 256
            c.mesh.update(MESHES.get(name, {}))
        if name in ADAPTERS:
            bagel_7b_sgt.train_adapters(c, *ADAPTERS[name])
    if "benchmarks" in variants:
        c.evaluators.update(bagel_7b_sgt.benchmarks())
    if "frozen" in variants:
        c.model.freeze_mllm = True
        c.freeze = (*c.freeze, "^mllm/")
        # What a frozen model answers cannot improve.
        del c.data.mixture["understanding"], c.evaluators.loss.sources["understanding"]
        c.data.budgets["labels"] = 8
    if "edits" in variants:
        c.freeze = tuple(path for path in c.freeze if path == "^vae/" or path.startswith("^mllm"))
        c.evaluators = dict(loss=dict(type="loss", sources=dict(edits="sam_held_out"), batches=8))
        c.data.mixture = dict(edits=dict(source="sam", task="editing", see=False, weight=1.0, vit_size={}))
        c.data.canvases = ((1024, 1024), (768, 1024), (1024, 768))
        c.data.budgets.update({"ref": 8_192, **{f"pixels:{h}x{w}": 2 for h, w in c.data.canvases}})
    if "reference_scaling" in variants:
        c.objective.reference_scaling = True
        c.accumulate = 3
        c.schedule.delay_steps = 1
        c.data.rows = 3 * c.data.rows
    if "local" in variants:
        _make_local(c)


def _make_local(c: ml_collections.ConfigDict) -> None:
    """Toy sizes, patches of 4 pixels and latent tokens of 8, from the seed and procedural scenes."""
    c.name = "omnigen2_local_sgt"
    c.total_steps = 4
    c.model.dit.update(
        in_channels=4, hidden_size=48, num_layers=2, num_refiner_layers=1, num_attention_heads=4, num_kv_heads=2,
        multiple_of=16, axes_dim_rope=(4, 4, 4), text_feat_dim=32,
    )  # fmt: skip
    c.model.text.update(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=128, mrope_section=(2, 1, 1),
    )  # fmt: skip
    c.model.vision.update(
        depth=2, hidden_size=32, num_heads=2, intermediate_size=48, out_hidden_size=32, patch_size=4, window_size=16,
        fullatt_block_indexes=(1,),
    )  # fmt: skip
    c.model.vae.update(ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, z_channels=4)
    c.model.tokens.update(
        im_start_token_id=1, im_end_token_id=2, pad_token_id=0, vision_start_token_id=3, vision_end_token_id=4,
        image_token_id=0, video_token_id=0, img_token_id=0,
    )  # fmt: skip
    c.model.update(
        template="bare", min_pixels=64, max_pixels=1024, attention="xla", remat="none", dtype="float32"
    )  # fmt: skip
    c.init_from = ""
    c.schedule.warmup_steps = 2
    scenes = dict(type="scenes", seed=0, size=32, min_objects=1, max_objects=2, split="train", num=64)
    c.data.update(
        tokenizer="package:nano/tokenizer.json", canvases=((32, 32),), rows=c.data.rows // 2, pool_size=6, read_threads=0,
        prefetch=2, on_bad="error",
    )  # fmt: skip
    held_out = scenes | dict(split="test", num=8)
    c.data.sources = dict(
        sam=dict(**scenes, turns=0), sam_held_out=dict(**held_out, turns=0),
        llava=dict(**scenes, turns=2), llava_held_out=dict(**held_out, turns=2),
    )  # fmt: skip
    if "segmentation" in c.data.mixture:
        c.data.mixture.segmentation.tokenised = ""
        c.data.mixture.segmentation.options.style = "plain"  # the toy tokenizer knows few words
    c.data.vit_size.update(stride=8, min_size=32, max_size=32, max_pixels=1024)
    c.data.target_size.update(stride=8, min_size=8, max_size=32, max_pixels=1024)
    c.data.budgets = {
        "und": 96, "vit": 192, "labels": 16, "text": 64, "gen": 48, "flow": 3, "pixels:32x32": 3,
    }  # fmt: skip
    c.evaluate_every = 4
    c.evaluators.loss.batches = 1
    if "masks" in c.evaluators:
        c.evaluators.masks.update(n=2, steps=2, batch=2)
        c.evaluators.masks.proxy_options.style = "plain"
    for name in c.evaluators.keys() & bagel_7b_sgt.benchmarks().keys():
        c.evaluators[name].update(limit=2, max_new_tokens=2, batch=2)
    c.mesh.update(data=-1, fsdp=1)
    c.platform = "cpu"
    c.cpu_devices = 2
    c.log_every = 1
    c.checkpoint = dict(every=2, keep=2)
