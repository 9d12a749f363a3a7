"""Pretrains the base model of all studies: BAGEL's architecture at 2 M parameters, with its two skills trained separately.

Command:   python -m sgt_jax.main --config=configs/nano_pretrain.py --workdir=/tmp/nano_pretrain
           python -m sgt_jax convert /tmp/nano_pretrain /tmp/nano_base --dtype f32
Hardware:  2 CPU cores, 2 GB of memory, about 40 minutes; you may stop it and start it again at any time.
Reaches:   see docs/results.md (measured). ema.safetensors and the configs of /tmp/nano_base ship in sgt_jax/assets/nano.

Understanding and generation are *decoupled*: questions are asked about some scenes, pictures are drawn from captions and
edited on other scenes, and the understanding encoder never takes part in drawing. So nothing connects the two skills yet;
SGT does that (configs/nano_sgt.py, configs/study/proxies.py).

The schedule is warm-up, stable, decay: a run that was stopped at step S in the stable phase may be given any other end after
S, and is the same run as one that had that end from the start. --config.total_steps=16000 --config.resume=changed continues
to learn.
"""

import ml_collections
from sgt_jax.configs import nano

SIZE = nano.SIZE
# Kinds of questions: those of configs/nano.py and the harder ones.
KINDS = (
    "exists", "count", "count_shape", "count_colour", "colour_of", "shape_of", "verify", "left_right", "above_below",
    "nearer", "larger", "size", "quadrant", "leftmost", "highest", "more", "pattern",
    "shape_outermost", "count_beside", "arithmetic",
)  # fmt: skip
EDITS = ("colour", "shape", "remove")
# First lessons: mostly *where* things are. A model that starts with what they are leaves places for later (docs/results.md).
PLACES = ("quadrant", "left_right", "colour_of", "count")
LESSONS = 1_000  # steps of them


def scenes(max_objects: int = 3, **options) -> dict:
    """One to three objects that overlap, in a world where some things are common and some keep company."""
    sizes = dict(small=(0.14, 0.17), large=(0.21, 0.26))
    world = dict(prior=0.7, company=0.25, max_overlap=0.35)
    world |= dict(sizes=sizes, min_objects=1, max_objects=max_objects)
    return dict(type="scenes", size=SIZE, kinds=KINDS, **world, **options)


def get_config() -> ml_collections.ConfigDict:
    """The experiment; see configs/nano.py for the fields that are not explained here."""
    c = nano.get_config()
    c.name = "nano_pretrain"
    c.model.position_scale = 4.0  # or what the connector makes of a patch drowns its place
    c.total_steps = 4_500
    c.schedule = dict(name="warmup_stable_decay", warmup_steps=100, decay_fraction=0.2, final_fraction=0.0)
    c.ema_decay = 0.995

    # -- Data: as many pictures as the cache of a source holds; their questions and captions are new in every epoch.
    c.data.sources = ml_collections.ConfigDict(
        dict(
            lessons=scenes(2, seed=13, split="train", num=30_000, turns=6) | dict(kinds=PLACES),
            asked=scenes(seed=10, split="train", num=30_000, turns=6),
            drawn=scenes(seed=11, split="train", num=30_000, turns=0, colourless=0.3),
            edited=scenes(seed=12, split="train", num=30_000, turns=0, edits=EDITS),
            held_out=scenes(seed=10, split="test", num=4_000, turns=1),
            held_out_all=scenes(seed=10, split="validation", num=2_000, turns=6, edits=EDITS),
        )
    )
    # Shares in samples. A row holds one conversation, and one or two drawings and edits.
    c.data.mixture = ml_collections.ConfigDict(
        dict(
            lessons=dict(source="lessons", task="understanding", weight=2.0, vit_size={}),
            understanding=dict(source="asked", task="understanding", weight=2.0, vit_size={}),
            text_to_image=dict(source="drawn", task="text_to_image", weight=3.0),
            # see: the understanding encoder sees the picture, too; joined_rate: share of series with two edits in one.
            editing=dict(source="edited", task="editing", see=False, joined_rate=0.5, weight=1.0, vit_size={}),
        )
    )
    c.data.stages = (dict(steps=LESSONS, weights=dict(understanding=0.0)), dict(weights=dict(lessons=0.0)))
    c.data.budgets = {"und": 128, "vit": 16, "gen": 48, "labels": 12, f"pixels:{SIZE}x{SIZE}": 3}

    # -- Evaluation: what a person wants to see on the way; the full scores are a study's (configs/study/proxies.py).
    sampler = dict(shift=2.0, batch=64, seed=1, show=8)
    c.evaluate_every = 1_000
    c.evaluators = ml_collections.ConfigDict(
        dict(
            loss=dict(type="loss", source="held_out_all", batches=2),
            answers=dict(type="answers", source="held_out", n=800, train_source="held_out_all", train_n=2000,
                         max_new_tokens=3, batch=200),
            drawings=dict(type="drawings", source="held_out", n=128, text_scale=3.0, steps=8, **sampler),
        )
    )  # fmt: skip

    # -- Sampling: BAGEL's own settings for segmentation, which this model has not learned.
    c.sampling.segment = nano.painting(49, 3.0, text_scale=4.0, low=0.4)
    c.sampling.palette = ""

    # -- Running.
    c.cpu_devices = 1
    c.log_every = 50
    c.checkpoint = dict(every=250, keep=2)
    return c
