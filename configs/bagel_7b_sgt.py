"""Post-trains BAGEL-7B-MoT with SGT: paints SAM-SGT photos as segmentation maps and answers LLaVA-OneVision questions.

docs/seven_b.md is the whole way from a clone: install lines for TPU and GPU, disk (234 GB a checkpoint), hours by `plan` (4.5
to 5.7 on 16 v5p, 72 to 91 chip-hours), what was measured, compiled, and not run. Commands, in the folder that holds data/ and
checkpoints/; the downloads were not run by us:

    hf download ByteDance-Seed/BAGEL-7B-MoT --local-dir checkpoints/BAGEL-7B-MoT
    hf download Two-hot/SAM-SGT --repo-type dataset --local-dir data/SAM-SGT
    hf download lmms-lab/LLaVA-OneVision-Data --repo-type dataset --local-dir data/LLaVA-OneVision-Data

    python -m sgt_jax ingest type=sam_sgt_tars root=data/SAM-SGT data/records/sam_sgt --on-bad skip
    python -m sgt_jax ingest type=llava_onevision_parquet root=data/LLaVA-OneVision-Data data/records/llava_onevision
    python -m sgt_jax validate --config=configs/bagel_7b_sgt.py      # read all data, list the bad records
    python -m sgt_jax tokenize --config=configs/bagel_7b_sgt.py      # encode the targets once
    python -m sgt_jax inspect-data --config=configs/bagel_7b_sgt.py  # lengths, fill, mixture, pictures of the targets
    python -m sgt_jax.main --config=configs/bagel_7b_sgt.py --workdir=runs/bagel_7b_sgt
    python -m sgt_jax convert runs/bagel_7b_sgt checkpoints/SGT-BAGEL

Hardware:  8 devices with one pack of 16k slots each, as in the reference. Parameters, EMA and both Adam moments in float32
           take 234 GB over all devices; `python -m sgt_jax plan` says whether a slice fits.
Reaches:   we have not run it at this size. The paper, with its best ratio 2:1: overall understanding 66.05 -> 67.75, CV-Bench
           73.21 -> 79.23, MMVP 83.00 -> 83.33, GenEval 78.21 -> 80.95; question answering alone: 66.44, 74.61, 82.67, 77.18.
Variants:  :v5p_2x2x1 :v5p_2x2x4 :v6e_4x4 :v6e_8x8 :v5e_4x8 :v5e_8x8 :8xh100 :8xh200 :1xh200_gen :1xh200_lora
           :1x80gb_lora :1x24gb_lora
                    hardware: a row of 16k slots per chip, mesh, attention kernel; docs/scaling.md lists what was compiled.
                    Cloud names such as v5p-16 count cores, these count chips. :1xh200_gen trains the generation expert
                    alone; :1xh200_lora trains adapters of both experts, :1x80gb_lora of the generation expert alone, with
                    the reference's 8 packs a step, one after the other (docs/adapters.md); :1x24gb_lora keeps the
                    frozen weights as 8-bit integers, reads and paints smaller pictures, and has 32 packs of 4k slots
           :benchmarks  MMVP and POPE at every evaluation, from data/benchmarks (docs/benchmarks.md)
           :pixels  the autoencoder runs in the step, on a few canvases; nothing is tokenised
           :32k     packs of 32k slots, the upstream default
           :local   the same steps with toy sizes on a CPU; `python -m tests.support.local_road DIR` makes its files
           Variants can be combined: configs/bagel_7b_sgt.py:local+pixels

Paper, project page and released code contradict each other in places; comments mark our choices with DISAGREEMENT.
"""

import ml_collections
from sgt_jax.configs.nano import painting

# Chips of each hardware variant, named by topology.
TPUS = {"v5p_2x2x1": 4, "v5p_2x2x4": 16, "v6e_4x4": 16, "v6e_8x8": 64, "v5e_4x8": 32, "v5e_8x8": 64}
GPUS = {"8xh100": 8, "8xh200": 8, "1xh200_gen": 1, "1xh200_lora": 1, "1x80gb_lora": 1, "1x24gb_lora": 1}
# Adapters on one device (rank, targets, base_dtype): of both experts, or of the one that paints.
ADAPTERS = {"1xh200_lora": (32, "both", ""), "1x80gb_lora": (64, "gen", ""), "1x24gb_lora": (32, "gen", "int8")}
VARIANTS = ("benchmarks", "pixels", "32k", "local", *TPUS, *GPUS)
HELD_OUT = 256  # records at the beginning of every source that training leaves out and evaluations use


def evaluators(steps: int, shift: float, text_scale: float) -> dict:
    """Of runs at full size: 16 held-out photos, what should be painted and what is, and the loss on held-out batches."""
    return dict(
        masks=dict(
            type="masks",
            source="sam_held_out",
            n=16,
            train_source="",  # photos of many sizes have no best constant map
            train_n=0,
            proxy_options=dict(style="general", resize="nearest"),  # as in training
            palette="",  # SAM-SGT has no fixed colours: they are found in the picture
            max_masks=64,
            show=16,
            seed=1,
            steps=steps,
            shift=shift,
            text_scale=text_scale,  # over all times; `sampling` below guides from 0.4 on
            batch=4,  # pictures painted at once
        ),
        # The objective itself, on data that no step has seen.
        loss=dict(type="loss", sources=dict(segmentation="sam_held_out", understanding="llava_held_out"), batches=8),
    )


def benchmarks() -> dict:
    """Benchmarks in the run, whole, by their official rules; the folders are those of `python -m sgt_jax evaluate`."""
    asked = dict(type="benchmark", limit=0, prompt="toolkit", max_new_tokens=0, batch=8)
    return {name: dict(**asked, name=name, folder=f"data/benchmarks/{name}") for name in ("mmvp", "pope")}


def model() -> dict:
    """BAGEL-7B-MoT. Only for planning and for runs without `init_from`: a published folder brings its own sizes."""
    return dict(
        # Qwen2.5-7B's decoder (llm_config.json); BAGEL adds norms on queries and keys.
        llm=dict(
            hidden_size=3584,
            intermediate_size=18944,
            num_hidden_layers=28,
            num_attention_heads=28,  # of size 128
            num_key_value_heads=4,
            vocab_size=152064,
            rms_norm_eps=1e-6,
            rope_theta=1e6,
            max_position_embeddings=32768,
            initializer_range=0.02,
        ),
        # SigLIP so400m at 980 pixels (vit_config.json).
        vit=dict(
            hidden_size=1152,
            intermediate_size=4304,
            num_hidden_layers=27,  # the file's; 26 are built, see vit_select_layer
            num_attention_heads=16,
            num_channels=3,
            image_size=980,
            patch_size=14,
            layer_norm_eps=1e-6,
        ),
        # The FLUX.1 autoencoder (ae.safetensors): 8 pixels a latent.
        vae=dict(
            ch=128,
            ch_mult=(1, 2, 4, 4),
            num_res_blocks=2,
            z_channels=16,
            scale_factor=0.3611,
            shift_factor=0.1159,
        ),
        latent_patch_size=2,  # so one latent token is 16 x 16 pixels
        max_latent_size=64,  # pictures of up to 1024 pixels a side
        vit_max_num_patch_per_side=70,
        vit_select_layer=-2,
        position_init="sincos",
        position_seed=0,  # of other tables
        position_scale=1.0,
        connector_act="gelu_pytorch_tanh",
        interpolate_pos=False,
        timestep_shift=1.0,  # in training; sampling uses 3
        freeze_und=False,  # True trains the generation expert alone, as RecA does
        copy_init_moe=True,  # matters only when starting from a plain language model
        scan_layers=True,  # one layer is compiled instead of 28
        remat="full",  # keep layer inputs only; the reference recomputes every layer, too
        attention="blockwise",
        attention_block=512,
        dtype="bfloat16",  # of matmul inputs; norms, rotary tables, times, softmax and losses stay float32
    )


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The experiment; `variant` is one of VARIANTS or several joined by "+"."""
    variants = [v for v in variant.split("+") if v]
    if unknown := [v for v in variants if v not in VARIANTS]:
        raise ValueError(f"no variant {', '.join(unknown)} of this config; there are {', '.join(VARIANTS)}")
    c = ml_collections.ConfigDict()
    c.name = "bagel_7b_sgt"
    c.family = "bagel"
    c.seed = 4396  # of noise, times and condition dropout
    # DISAGREEMENT: the launcher sets no end, and the export script's default suggests 8,000; the paper says nothing we know.
    c.total_steps = 8_000
    c.model = model()
    c.init_from = "checkpoints/BAGEL-7B-MoT"  # the published folder; sizes come from it
    c.init_base = ""  # the BAGEL folder, if init_from is an SGT release that holds ema.safetensors alone
    c.init_strip_prefix = ""  # taken off the names of init_from's tensors, such as "module." of a wrapper
    c.vae_from = ""  # the autoencoder comes with init_from

    # -- Objective.
    # DISAGREEMENT: text weighs 1.5 in SGT's launcher and 1.0 in BAGEL and RecA; the project page is silent.
    c.objective = dict(name="sgt", ce_weight=1.5, mse_weight=1.0, ce_loss_reweighting=False)
    # BAGEL's launcher trains ViT, connector and both experts. (The page's frozen VLM is OmniGen2's, and its code trains it.)
    # Add "^vit/" or "^decoder/.*und/" to freeze more.
    c.freeze = ("^vae/", "pos_embed")
    # Adapters: small changes of linear layers, trained instead of the model, which is then frozen (docs/adapters.md).
    c.adapter = dict(
        rank=0,  # of every adapter; 0 trains the model itself. Usual: 64 for "gen", 32 for "both", at learning rate 1e-4
        alpha=0.0,  # what an adapter computes is multiplied with alpha / rank; 0: alpha is twice the rank
        targets="gen",  # the seven projections of the generation expert; "und": the other expert; "both"; or a
        # regular expression for the names of modules in the published weights
        dropout=0.0,  # of the adapters' input
        rslora=False,  # True: alpha / sqrt(rank)
        base_dtype="",  # of the frozen weights: "float32", "bfloat16"; "int8": of projections; "": model.dtype
    )
    c.accumulate = 1  # micro-batches a step; more save activations and change nothing else

    # -- Optimizer.
    c.optimizer = dict(
        name="adamw",
        learning_rate=1e-4,  # DISAGREEMENT: RecA and later work on BAGEL use 2e-5 to 4e-5
        b1=0.9,
        b2=0.95,
        eps=1e-15,  # the reference's. Parameters without a gradient (ViT key biases) take full steps of noise; 1e-8 mends it
        weight_decay=0.0,
        clip=1.0,
        muon_learning_rate=0.02,  # of name="muon", as muon_momentum
        muon_momentum=0.95,
    )
    # The fractions are those of schedules that end: "cosine" and "warmup_stable_decay".
    c.schedule = dict(name="constant", warmup_steps=1_000, decay_fraction=0.2, final_fraction=0.0)
    # What is published is the average, and after 8,000 steps 45 % of it is still the starting weights.
    c.ema_decay = 0.9999
    c.max_nonfinite = 5  # updates in a row that may be skipped before the run stops

    # -- Data.
    c.data = dict(
        seed=42,
        tokenizer="checkpoints/BAGEL-7B-MoT",  # holds Qwen2.5's tokenizer.json with the four special tokens
        sources=dict(
            # Written by `python -m sgt_jax ingest` from the published files: docs/data.md. An unpacked tree is read as it is
            # by dict(type="sam_sgt", root="data/SAM-SGT", index="file_names/sam_190k_new.txt"), with the same skip and limit.
            # DISAGREEMENT: 190k pairs are released; the paper's scaling plot ends at 100k, by the configs from COCO.
            sam=dict(type="records", root="data/records/sam_sgt", skip=HELD_OUT),
            sam_held_out=dict(type="records", root="data/records/sam_sgt", limit=HELD_OUT),
            # DISAGREEMENT: the page counts 501k samples in five categories; the released download script draws about 77k.
            llava=dict(type="records", root="data/records/llava_onevision", skip=HELD_OUT),
            llava_held_out=dict(type="records", root="data/records/llava_onevision", limit=HELD_OUT),
        ),
        # Shares are in samples of the stream. DISAGREEMENT: the page's best ratio is 2:1; the released YAML draws 1:5 with
        # one sample of each forced into every pack, which gives about 0.3:1; OmniGen2's YAML is exactly 2:1.
        mixture=dict(
            segmentation=dict(
                source="sam",
                task="proxy",
                proxy="segmentation",
                weight=2.0,
                # The reference blends colours at borders (bicubic resize of a colour map): resize="blended".
                options=dict(style="general", resize="nearest", palette=""),  # "": the proxy's default
                latents=False,
                photo_as_target=False,
                vit_size=dict(stride=14, min_size=224, max_size=224),  # DISAGREEMENT: up to 980 in sampling
                # Where `python -m sgt_jax tokenize` writes the targets' moments; training reads this instead of `source`.
                tokenised="data/tokenised/segmentation",
            ),
            understanding=dict(
                source="llava",
                task="understanding",
                weight=1.0,
                vit_size=dict(stride=14, min_size=378, max_size=980, max_pixels=2_007_040),
            ),
        ),
        target_size=dict(
            stride=16, min_size=512, max_size=1024
        ),  # of what is painted, each picture at its own aspect ratio
        canvases=(),  # (height, width) that the autoencoder meets in the step; none: targets are tokenised
        vit_size=dict(stride=14, min_size=224, max_size=224),  # of mixture parts that say nothing else
        dropout=dict(text=0.1, vit_image=0.3, vae_image=0.3),  # of droppable items; a proxy's photo is never dropped
        rows=8,  # packs a step, one per device
        # Slots per row and lane: `inspect-data` suggests them from the data. und + gen are the decoder's 16,384 slots; und
        # must hold the largest picture (70 x 70 patches) with its text. A sample above a budget is skipped and counted.
        budgets={"und": 5_120, "gen": 11_264, "vit": 4_992, "labels": 1_536},
        pool_size=48,  # samples a row chooses from when it fills its budgets
        read_threads=16,  # per row; order does not depend on it
        prefetch=4,  # batches made ahead
        stages=(),  # parts of the run with weights of their own
        on_bad="skip",  # count and log unusable records; "error" stops at the first
    )

    # -- Evaluation: pictures and the held-out loss; `python -m sgt_jax evaluate` scores benchmarks on a checkpoint.
    c.evaluate_at_start = True
    c.evaluate_weights = "ema"
    c.evaluate_every = 1_000
    c.evaluators = evaluators(steps=49, shift=3.0, text_scale=4.0)

    # -- How `sample` and inference.load paint with this model unless they are told otherwise: the reference's settings.
    c.sampling = dict(
        t2i=painting(49, 3.0, text_scale=4.0, low=0.4),
        edit=painting(49, 3.0, text_scale=4.0, image_scale=2.0, renorm="text_channel"),
        segment=painting(49, 3.0, text_scale=4.0, low=0.4),
        palette="",  # colours of segmentations are found in the picture
    )

    # -- Running.
    c.mesh = dict(data=1, fsdp=-1, tensor=1, context=1)  # devices per axis; -1: all that are left
    c.platform = ""  # JAX's choice
    c.cpu_devices = 0
    c.compilation_cache = ""  # folder for compiled programs; "": the user's (see docs/performance.md)
    c.log_every = 10
    c.checkpoint = dict(every=1_000, keep=2)  # 234 GB each
    c.profile = ()  # (first step, steps) to trace into WORKDIR/profile
    c.report = True
    c.compare = ""  # a run whose scores stand beside this one's: its work directory, or a variant of this file to train first
    c.resume = ""  # "changed": resume although fields that change numbers are others than when the run began

    for name in variants:
        if name in TPUS | GPUS:
            _fit_hardware(c, name)
    if "32k" in variants:
        c.data.budgets = {"und": 9_728, "gen": 23_040, "vit": 8_192, "labels": 2_048}
    if "benchmarks" in variants:
        c.evaluators.update(benchmarks())
    if "local" in variants:
        _make_local(c)
    if "pixels" in variants:
        _paint_canvases(c)
    return c


def _fit_hardware(c: ml_collections.ConfigDict, name: str) -> None:
    """One row per chip, parameters and optimizer state cut up over all chips."""
    c.data.rows = (TPUS | GPUS)[name]
    c.mesh.update(data=1, fsdp=-1)
    if name in TPUS:
        c.model.attention, c.model.attention_block = "tpu", 256
    if name == "v5e_4x8":
        c.model.remat = "full_offload"  # 1.2 GiB too large with the layers' inputs on the chip
    if name == "1xh200_gen":
        # One device holds no optimizer state for 14 G parameters: the understanding expert, the ViT and both ends of the
        # vocabulary stay as published, and there is no average.
        c.freeze = (*c.freeze, "^vit/", "^connector/", "^decoder/.*und", "^decoder/(embed|lm_head)/")
        c.ema_decay, c.evaluate_weights = 0.0, "params"
    if name in ADAPTERS:
        train_adapters(c, *ADAPTERS[name])
    if name == "1x24gb_lora":
        _small_rows(c)


def _small_rows(c: ml_collections.ConfigDict) -> None:
    """Rows of 4,096 slots, four times as many: photos of up to 490 pixels in conversations, targets of up to 512."""
    c.data.mixture.understanding.vit_size.update(min_size=224, max_size=490)
    c.data.target_size.update(min_size=256, max_size=512)
    c.data.mixture.segmentation.tokenised = "data/tokenised/segmentation_512"
    c.data.budgets = {"und": 1_536, "gen": 2_560, "vit": 1_536, "labels": 384}
    c.data.rows = c.accumulate = 32


def train_adapters(c: ml_collections.ConfigDict, rank: int, targets: str, base_dtype: str) -> None:
    """Adapters over a bfloat16 or int8 base on one device, with as many packs a step as eight devices take."""
    c.adapter.update(rank=rank, targets=targets, base_dtype=base_dtype)
    c.optimizer.learning_rate = 1e-4
    c.data.rows = c.accumulate = 8
    c.ema_decay, c.evaluate_weights = 0.0, "params"  # an average would begin with adapters that do nothing


def _paint_canvases(c: ml_collections.ConfigDict) -> None:
    """Targets as pixels: each fills the canvas of the nearest aspect ratio, so shapes are static and nothing is padded."""
    c.data.mixture.segmentation.tokenised = ""
    size = c.data.target_size.max_size
    step = c.data.target_size.stride
    short = {ratio: round(size * ratio / step) * step for ratio in (1, 3 / 4, 2 / 3, 9 / 16)}
    shapes = {(short[r], size) for r in short} | {(size, short[r]) for r in short}
    c.data.canvases = tuple(sorted(shapes))
    # The autoencoder encodes every canvas of a row, used or not: rare shapes get one, 3:2 and 4:3 the rest.
    per_row = c.data.budgets["gen"] // (short[2 / 3] * size // step**2)
    for height, width in c.data.canvases:
        common = (height, width) in ((short[2 / 3], size), (short[3 / 4], size))
        c.data.budgets[f"pixels:{height}x{width}"] = max(per_row // 2, 1) if common else 1


def _make_local(c: ml_collections.ConfigDict) -> None:
    """Toy sizes with the strides of the real thing: patches of 14 pixels, latent tokens of 16."""
    c.name = "bagel_local_sgt"
    c.total_steps = 4
    c.model.llm.update(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=128, max_position_embeddings=512,
    )  # fmt: skip
    c.model.vit.update(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=112)
    c.model.vae.update(ch=32, ch_mult=(1, 1, 1, 1), num_res_blocks=1, z_channels=4)
    c.model.update(max_latent_size=8, vit_max_num_patch_per_side=8, attention="xla", remat="none", dtype="float32")
    c.init_from = c.data.tokenizer = "checkpoints/BAGEL-local"
    c.schedule.warmup_steps = 2
    c.ema_decay = 0.9
    c.data.mixture.segmentation.options.style = "plain"  # the toy tokenizer knows few words
    c.data.mixture.segmentation.vit_size.update(min_size=56, max_size=56)
    c.data.mixture.understanding.vit_size.update(min_size=56, max_size=112, max_pixels=112 * 112)
    c.data.vit_size.update(min_size=56, max_size=56)
    c.data.target_size.update(min_size=64, max_size=128)
    c.data.rows = 4
    c.data.budgets = {"und": 192, "gen": 128, "vit": 128, "labels": 48}
    c.data.update(pool_size=6, read_threads=0, prefetch=2)
    for held_out, source in (("sam_held_out", "sam"), ("llava_held_out", "llava")):
        c.data.sources[held_out].limit = c.data.sources[source].skip = 2
    c.evaluate_every = 4
    c.evaluators.masks.update(n=2, steps=2, batch=2)
    c.evaluators.masks.proxy_options.style = "plain"
    c.evaluators.loss.batches = 1
    for name in c.evaluators.keys() & benchmarks().keys():
        c.evaluators[name].update(limit=2, max_new_tokens=2, batch=2)
    c.mesh.update(data=-1, fsdp=1)
    c.platform = "cpu"
    c.cpu_devices = 2
    c.log_every = 1
    c.checkpoint = dict(every=2, keep=2)
