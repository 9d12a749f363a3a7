"""Shared by all studies: base experiment, SFT alone, arms with a proxy, and the scores of the tables.

Every study starts from the same pretrained nano model and scores in the same way. Arms that mean the same have the same
config in all studies, whatever they are called, so a study can take finished runs from another one (`--reuse`).
"""

import ml_collections
from sgt_jax.configs.study import first_bed

STEPS = 300
SEEDS = (0, 1, 2)


def budgets(und: int, vit: int, gen: int, pictures: int) -> dict:
    """Slots per row and lane, and pictures to paint. The labels' budget stays: one conversation a row, whatever else."""
    return {"und": und, "vit": vit, "gen": gen, f"pixels:{first_bed.SIZE}x{first_bed.SIZE}": pictures}


def alone(**more) -> dict:
    """SFT without a proxy: its packs hold less, so they may be smaller and the step cheaper."""
    return dict(data=dict(mixture=dict(proxy=dict(weight=0.0)), budgets=budgets(128, 16, 32, 2)), **more)


def painting(proxy: str) -> dict:
    """SFT with another proxy than the base's segmentation."""
    return dict(data=dict(mixture=dict(proxy=dict(proxy=proxy))))


def study(name: str, arms: dict, favourite: str, about: str = "", seeds: tuple = SEEDS) -> ml_collections.ConfigDict:
    """A study; see sgt_jax/study/run.py for the fields.

    Args:
      arms: name -> what it changes in the base config; `base` and `sft` are added, and every arm is compared with both.
      favourite: the arm that the claim is about.
      about: what is asked and what is held fixed; the report says it.
    """
    c = ml_collections.ConfigDict()
    c.name = name
    c.seeds = seeds
    if about:
        c.about = about
    c.base = first_bed.get_config()
    c.base.model.update(attention="xla", attention_block=512)  # as the committed runs were computed, to the last bit
    c.base.total_steps = STEPS
    c.base.evaluate_at_start = False  # that is the arm "base"
    c.base.report = False
    c.arms = dict(base=dict(total_steps=0), sft=alone(), **arms)
    c.references = ("sft", "base")  # every arm is compared with these; the first one is what claims are about
    c.favourite = favourite

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
