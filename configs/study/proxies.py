"""The first study: is segmentation the best proxy? One base model, one arm a proxy, several seeds.

Command:   python -m sgt_jax.study --config=configs/study/proxies.py --workdir=/tmp/proxies --results=docs/results/proxies
Hardware:  2 CPU cores; kill it anywhere and run the same command again.

The base model is the pretrained nano model that ships with the package, see configs/nano_sgt.py. Every arm starts from it
and sees the same *understanding* examples in the same order, and the same replay of drawing and editing; arms differ in the
proxy that fills the rest of their packs. `sft` leaves that room empty (equal understanding examples); `sft_long` is SFT
alone for longer, so that it reads as many decoder slots as an arm with a proxy (about equal compute).
"""

import ml_collections

from configs import nano_sgt

PROXIES = ("segmentation", "outlines", "detection", "depth", "inpainting", "edges", "reconstruction")
STEPS = 300
LONG = 1.35  # x STEPS: decoder slots of a step with a proxy over those of one without, (168 + 48) / (128 + 32)


def arm(proxy: str) -> dict:
    """What an arm with this proxy changes in the base config."""
    return dict(data=dict(mixture=dict(proxy=dict(proxy=proxy))))


def get_config() -> ml_collections.ConfigDict:
    """The study; see sgt_jax/study.py for the fields."""
    c = ml_collections.ConfigDict()
    c.name = "proxies"
    c.seeds = (0, 1, 2, 3, 4)
    c.base = nano_sgt.get_config()
    c.base.total_steps = STEPS
    c.base.evaluate_at_start = False  # that is the arm "base"
    c.base.report = False
    # Without a proxy a pack holds less, so it may be smaller and the step cheaper: und and gen slots, ViT patches.
    alone = dict(
        data=dict(
            mixture=dict(proxy=dict(weight=0.0)),
            budgets={"und": 128, "vit": 16, "gen": 32, f"pixels:{nano_sgt.SIZE}x{nano_sgt.SIZE}": 2},
        )
    )
    c.arms = dict(
        base=dict(total_steps=0),
        sft=alone,
        sft_long=dict(alone, total_steps=int(STEPS * LONG)),
        **{proxy: arm(proxy) for proxy in PROXIES},
    )
    c.references = ("sft", "base")  # every arm is compared with these; the first one is what claims are about
    c.favourite = "segmentation"  # the arm that the claim is about

    # -- Scores of the tables, in the paper's groups: items of an evaluator, of all or some kinds.
    kinds = dict(
        vision=("count", "count_shape", "count_colour", "more", "left_right", "above_below", "nearer"),
        attributes=("colour_of", "shape_of", "verify", "size", "pattern", "larger", "exists"),
        spatial=("quadrant", "leftmost", "highest", "shape_outermost", "count_beside"),
        knowledge=("arithmetic",),
    )
    titles = dict(vision="vision-centric", attributes="attributes", spatial="spatial", knowledge="knowledge")
    answers = {
        group: dict(title=titles[group], evaluator="answers", item="accuracy", by="kind", of=of)
        for group, of in kinds.items()
    }
    c.scores = dict(
        vision=answers["vision"],
        attributes=answers["attributes"],
        hallucination=dict(title="hallucination (POPE)", evaluator="pope", item="accuracy", groups="picture"),
        spatial=answers["spatial"],
        knowledge=answers["knowledge"],
        geneval=dict(title="GenEval", evaluator="prompts", item="accuracy"),
        editing=dict(title="editing", evaluator="edits", item="exact"),
        masks=dict(title="segmentation (mIoU)", evaluator="masks", item="miou"),
    )
    c.columns = ("vision", "attributes", "hallucination", "spatial", "knowledge", "geneval", "editing", "masks")
    c.headline = "vision"
    c.understanding = ("vision", "attributes", "hallucination", "spatial", "knowledge")  # the radar's axes
    c.splits = dict(answers="kind", pope="category", prompts="tag", edits="kind")  # tables per kind
    return c
