"""Trains a small, real BAGEL model with SGT from scratch, on a CPU, with no download.

Command:   python -m sgt_jax.main --config=configs/nano.py --workdir=/tmp/nano
Hardware:  2 CPU cores, 2 GB of memory.
Reaches:   see the README (measured) and report.html in the work directory.

The model sees 32x32 pictures of one or two objects, answers questions about them, draws pictures from captions, and paints
the segmentation of what it sees through its understanding encoder, all in one network. Try another proxy with
`--config.data.mixture.proxy.proxy=edges`.
"""

import json

import ml_collections
from etils import epath

SIZE = 32


def nano_vae() -> dict:
    """Sizes, scale and shift of the shipped autoencoder (made by configs/nano_vae.py)."""
    return json.loads((epath.resource_path("sgt_jax") / "assets/nano/vae.json").read_text())


def model() -> dict:
    """BAGEL's architecture at width 128; the fields carry the names of BAGEL's own config files."""
    return dict(
        llm=dict(
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            rms_norm_eps=1e-6,
            rope_theta=1e6,
            vocab_size=128,  # of assets/nano/tokenizer.json
            max_position_embeddings=512,
            initializer_range=0.02,
        ),
        vit=dict(
            hidden_size=96,
            intermediate_size=288,
            num_hidden_layers=3,  # as in BAGEL's file: one more than are used
            num_attention_heads=4,
            num_channels=3,
            image_size=SIZE,
            patch_size=8,
            layer_norm_eps=1e-6,
        ),
        vae=nano_vae(),
        latent_patch_size=2,
        max_latent_size=4,
        vit_max_num_patch_per_side=4,
        connector_act="gelu_pytorch_tanh",
        interpolate_pos=False,
        timestep_shift=2.0,  # more time at high noise; BAGEL trains with 1.0 on far larger pictures
        freeze_und=False,
        vit_select_layer=-2,
        # All tokens of a picture share one rotary position, so these tables carry all of space. On a 4x4 grid the usual
        # sine tables are nearly parallel; random row and column codes tell neighbours apart at once.
        position_init="random_codes",
        position_seed=0,
        position_scale=1.0,
        copy_init_moe=False,
        scan_layers=False,
        remat="none",
        attention="auto",  # "xla", the whole matrix of scores, for few queries; else "blockwise": the allowed blocks only
        attention_block=64,
        dtype="float32",
    )


def painting(steps: int, shift: float, text_scale: float, **guidance) -> dict:
    """How pictures of one mode are painted: steps, shift of the time grid, and guidance (see models/bagel/guidance.py)."""
    plain = dict(text_scale=text_scale, image_scale=1.0, low=0.0, high=1.0, renorm="global", renorm_min=0.0)
    return dict(steps=steps, shift=shift, guidance=plain | guidance)


def get_config() -> ml_collections.ConfigDict:
    """The experiment; every field can be overridden on the command line as --config.NAME=VALUE.

    Overrides change fields and add none, so optional fields are here, too, with the value that changes nothing. A field that
    holds a dict takes a whole one: --config.data.mixture.proxy.options="{'style': 'plain', 'order': 'area'}".
    """
    c = ml_collections.ConfigDict()
    c.name = "nano"
    c.family = "bagel"  # of models: what `model` below describes
    c.seed = 0
    c.total_steps = 500
    c.model = model()
    c.init_from = ""  # a folder in BAGEL's published layout to start from; sizes then come from it, not from `model`
    c.init_base = ""  # the BAGEL folder, if init_from is an SGT release that holds ema.safetensors alone
    c.init_strip_prefix = ""  # taken off the names of init_from's tensors, such as "module." of a wrapper
    c.vae_from = "package:nano/ae.safetensors"  # trained autoencoder, frozen

    # -- Objective: ce_weight * cross-entropy per answer token + mse_weight * flow matching per latent token.
    c.objective = dict(name="sgt", ce_weight=1.0, mse_weight=1.0, ce_loss_reweighting=False)
    c.freeze = ("^vae/", "pos_embed")  # parameter paths (regular expressions) that are not trained
    # Adapters: small changes of linear layers, trained instead of the model, which is then frozen (docs/adapters.md).
    c.adapter = dict(
        rank=0,  # of every adapter; 0 trains the model itself
        alpha=0.0,  # what an adapter computes is multiplied with alpha / rank; 0: alpha is twice the rank
        targets="gen",  # layers that paint; "und": that read; "both"; or a regular expression for names of modules
        dropout=0.0,  # of the adapters' input
        rslora=False,  # True: alpha / sqrt(rank)
        base_dtype="",  # of the frozen weights: "float32", "bfloat16"; "int8": of projections; "": model.dtype
    )
    c.accumulate = 1  # micro-batches a step; more save activations and change nothing else

    # -- Optimizer: Muon on the weight matrices inside blocks, AdamW on everything else.
    c.optimizer = dict(name="muon", learning_rate=1e-3, muon_learning_rate=0.015, muon_momentum=0.95,
                       b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.0, clip=1.0)  # fmt: skip
    c.schedule = dict(name="warmup_stable_decay", warmup_steps=30, decay_fraction=0.4, final_fraction=0.0)
    c.ema_decay = 0.98  # a short run wants a short memory; 0 switches the average off
    c.max_nonfinite = 5  # updates in a row that may be skipped before the run stops

    # -- Data.
    scenes = dict(type="scenes", seed=0, size=SIZE, min_objects=1, max_objects=2)
    c.data = dict(
        seed=0,
        tokenizer="package:nano/tokenizer.json",
        sources=dict(
            # Six questions about each picture in one sequence: several times the answers per second.
            train=dict(**scenes, split="train", num=12_000, turns=6),
            held_out=dict(**scenes, split="test", num=1_600, turns=1),
        ),
        # Shares are in samples of the stream. Proxy : understanding : text-to-picture = 3 : 2 : 2.
        mixture=dict(
            proxy=dict(
                source="train",
                task="proxy",
                proxy="segmentation",
                weight=3.0,
                options=dict(style="plain", palette=""),  # of the proxy; "", and what is not here: the proxy's default
                latents=False,  # True shows the photo as clean latents, too
                photo_as_target=False,  # True paints the photo, whatever the proxy asks for
                tokenised="",  # folder in which `sgt_jax tokenize` keeps targets; "": the autoencoder runs in the step
                vit_size={},  # of this part; {}: data.vit_size
            ),
            understanding=dict(source="train", task="understanding", weight=2.0, vit_size={}),
            text_to_image=dict(source="train", task="text_to_image", weight=2.0),
        ),  # fmt: skip
        dropout=dict(text=0.1, vit_image=0.0, vae_image=0.0),  # of droppable items, for guidance
        vit_size=dict(stride=8, min_size=SIZE, max_size=SIZE),
        canvases=((SIZE, SIZE),),  # (height, width) of pictures that are painted
        target_size=dict(stride=8, min_size=SIZE, max_size=SIZE),  # of targets that are tokenised
        stages=(),  # parts of the run with weights of their own, such as dict(steps=100, weights=dict(proxy=0.0))
        rows=16,  # packs per step; many short rows are much faster than a few long ones on a CPU
        # Slots per row and lane: a conversation, one or two proxies, a drawing.
        budgets={"und": 144, "vit": 48, "gen": 48, "labels": 16, f"pixels:{SIZE}x{SIZE}": 3},
        pool_size=16,  # samples a row chooses from when it fills its budgets
        read_threads=0,  # per row; order does not depend on it
        prefetch=4,  # batches made ahead
        on_bad="error",  # or "skip": count and log unusable records
    )

    # -- Evaluation: before training, every evaluate_every steps, and at the end, on scenes never trained on.
    sampler = dict(shift=2.0, batch=64, seed=1, show=8)
    c.evaluate_at_start = True
    c.evaluate_weights = "ema"  # "params": the raw weights
    c.evaluate_every = 500
    c.evaluators = dict(
        loss=dict(type="loss", source="held_out_all", batches=2),
        answers=dict(type="answers", source="held_out", n=800, train_source="train", train_n=2000,
                     max_new_tokens=3, batch=200),
        masks=dict(type="masks", source="held_out", n=512, train_source="train", train_n=64, text_scale=1.0,
                   palette="distinct", max_masks=8, proxy_options=dict(palette="distinct", style="plain"),
                   steps=4, **sampler),
        drawings=dict(type="drawings", source="held_out", n=512, text_scale=3.0, steps=8, **sampler),
    )  # fmt: skip
    c.data.sources.held_out_all = dict(**scenes, split="validation", num=2_000, turns=6)

    # -- How `sample` and inference.load paint with this model unless they are told otherwise; palette: colours of
    # segmentations, "" finds them in the picture.
    c.sampling = dict(
        t2i=painting(8, 2.0, text_scale=3.0),
        edit=painting(8, 2.0, text_scale=3.0),
        segment=painting(4, 2.0, text_scale=1.0),
        palette="distinct",
    )

    # -- Running.
    c.mesh = dict(data=-1, fsdp=1, tensor=1, context=1)  # devices per axis; -1: all that are left
    c.platform = "cpu"
    c.cpu_devices = 1  # of all cores; several compute in threads whose memory is not kept (docs/performance.md)
    c.compilation_cache = ""  # folder for compiled programs; "": the user's (see docs/performance.md)
    c.log_every = 20
    c.checkpoint = dict(every=100, keep=2)
    c.profile = ()  # (first step, steps) to trace into WORKDIR/profile
    c.report = True
    c.compare = ""  # a run whose scores stand beside this one's: its work directory, or a variant of this file to train first
    c.resume = ""  # "changed": resume although fields that change numbers are others than when the run began
    return c
