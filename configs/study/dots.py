"""The bed of the studies gates, headline, proxies_on_dots, scarce and jigsaw: two or three discs that are named by colour.

Nobody runs this file; configs/study/gates.py and its neighbours build on it, and docs/studies.md says why it is what it is.

A disc's name is its colour, which this model sees, so no question is blind. Every arm starts from the nano model of the
package and sees the same conversations about discs: 12 a step, three questions each, beside three conversations about the
first bed's world, 24 drawings and three edits, without which tuning forgets what it does not practise. Arms differ in what
they paint.
"""

import ml_collections
from sgt_jax.configs import nano
from sgt_jax.configs.study import first_bed

SIZE = nano.SIZE
STEPS = 500
# Two or three discs, all colours equally common. The sizes and the overlap are those of the first bed.
DISCS = dict(min_objects=2, max_objects=3, prior=0.0, company=0.0, shapes=("circle",), pattern_rate=0.0)
TRAINED = ("left_right", "above_below", "leftmost", "highest", "larger", "nearer", "count_beside", "quadrant", "size")
SCORED = ("left_right", "above_below", "leftmost", "highest", "quadrant", "size")
# Of a colour that is there for "leftmost" and "highest" (3,000 held-out scenes), of one of the words for the others.
CHANCE = dict(left_right=50.0, above_below=50.0, leftmost=44.6, highest=45.8, quadrant=25.0, size=50.0)
CONTROLS = dict(quadrant=80.0)  # kinds that every trained arm has at least so often right, in percent
OLD_TURNS = 3  # questions in a conversation about the first bed's world


# Processor time on one core of the machine of docs/studies.md; SD of a paired difference over seeds, in points: the pilot's,
# the upper end of the pilot's 90 % interval, and what the headline's twelve seeds had (SGT - SFT, on "highest").
COST = dict(seconds_a_kiloslot=0.45, seconds_of_scores=140.0, sd=(0.8, 2.6, 6.9))


def scenes(seed: int, split: str, num: int, turns: int, kinds: tuple = TRAINED, **more) -> dict:
    """A source of discs."""
    return first_bed.scenes(seed=seed, split=split, num=num, turns=turns) | DISCS | dict(kinds=kinds) | more


def budgets(und: int, vit: int, gen: int, pictures: int) -> dict:
    """Slots per row and lane, and pictures to paint. Six labels: one conversation of three questions a row."""
    return {"und": und, "vit": vit, "gen": gen, "labels": 6, f"pixels:{SIZE}x{SIZE}": pictures}


PAINTS = budgets(160, 48, 64, 4)  # a conversation, two paintings, two drawings or edits
ALONE = budgets(110, 16, 48, 3)  # without paintings
# The same with a quarter of the drawings, or none.
PAINTS_FEW, ALONE_FEW = budgets(130, 48, 48, 3), budgets(80, 16, 32, 2)


def slots(per_row: dict) -> int:
    """Decoder slots of a row: what stands for compute."""
    return per_row["und"] + per_row["gen"]


# SFT alone for as many decoder slots as an arm that paints has in STEPS steps.
EQUAL_COMPUTE_STEPS = round(STEPS * slots(PAINTS) / slots(ALONE))


def alone(per_row: dict = ALONE, **more) -> dict:
    """SFT: answers and replay, nothing painted from what is seen; `per_row` are the slots that this needs."""
    return dict(data=dict(mixture=dict(proxy=dict(weight=0.0)), budgets=per_row), **more)


def without_replay(arm: dict) -> dict:
    """The same arm with nothing but the discs."""
    old = dict(old_questions=dict(weight=0.0), text_to_image=dict(weight=0.0), editing=dict(weight=0.0))
    data = dict(arm.get("data", {}))
    rows = 12  # as many conversations about discs a step
    return arm | dict(data=data | dict(rows=rows, mixture=dict(data.get("mixture", {})) | old))


def paints(proxy: str, **options) -> dict:
    """Another proxy than the base's segmentation."""
    return dict(data=dict(mixture=dict(proxy=dict(proxy=proxy))), **options)


# Masks of another scene: as many paintings of the same pixels, and no word about the picture that is shown.
STRANGE = dict(data=dict(sources=dict(painted=dict(strange_masks=True))))


def evaluators() -> dict:
    """10,000 questions about held-out discs, one a picture; the first bed's questions and drawing, to stay; masks."""
    told = dict(max_new_tokens=3, batch=500, on_bad="skip")
    drawn = dict(shift=2.0, batch=64, seed=1, show=8)
    return dict(
        answers=dict(type="answers", source="held_out", n=10_000, train_source="known", train_n=1_000, **told),
        old=dict(type="answers", source="held_out_old", n=1_000, train_source="asked_old", train_n=500, **told),
        prompts=dict(type="prompts", source="held_out_old", n=50, max_count=4, text_scale=3.0, steps=8, **drawn),
        # Read by panoptic quality, and in colours of rank: discs on grey are read as masks, too (a model that paints the
        # photo has the higher mIoU), but their colours are not those of the palette.
        masks=dict(type="masks", source="held_out", n=400, train_source="known", train_n=64, text_scale=1.0,
                   palette="distinct", max_masks=8, proxy_options=dict(palette="distinct", style="plain"), steps=4, **drawn),
    )  # fmt: skip


def get_config() -> ml_collections.ConfigDict:
    """The experiment that arms change; see configs/nano.py for the fields that are not explained here."""
    c = first_bed.get_config()
    c.name = "dots"
    c.total_steps = STEPS
    c.schedule = dict(name="warmup_stable_decay", warmup_steps=50, decay_fraction=0.3, final_fraction=0.0)
    old = first_bed.scenes
    c.data.on_bad = "skip"  # a few scenes fit no question of the kinds
    c.data.rows = 15
    c.data.sources = ml_collections.ConfigDict(
        dict(
            asked=scenes(20, "train", 30_000, 3, fixed=False),
            painted=scenes(21, "train", 30_000, 0, strange_masks=False),
            asked_old=old(seed=20, split="train", num=30_000, turns=OLD_TURNS),
            drawn=old(seed=22, split="train", num=30_000, turns=0, colourless=0.3),
            edited=old(seed=23, split="train", num=30_000, turns=0, edits=first_bed.nano_pretrain.EDITS),
            held_out=scenes(20, "test", 20_000, 1, SCORED),
            held_out_old=old(seed=20, split="test", num=4_000, turns=1),
            known=scenes(30, "train", 4_000, 1, SCORED),  # whose commonest answers are the baseline
        )
    )
    # Shares in samples: for each conversation about discs two paintings, 1/4 old conversation, two drawings, 1/4 edit. With
    # half a drawing, drawing was forgotten (configs/study/gates.py).
    m = c.data.mixture
    m.proxy.weight, m.understanding.weight, m.text_to_image.weight, m.editing.weight = 2.0, 1.0, 2.0, 0.25
    m.old_questions = dict(source="asked_old", task="understanding", weight=0.25, vit_size={})
    c.data.budgets = PAINTS
    c.evaluate_at_start = False
    c.evaluators = ml_collections.ConfigDict(evaluators())
    c.report = False
    c.cpu_devices = 1
    return c


def study(
    name: str, arms: dict, favourite: str, about: str, seeds: tuple, references: tuple = ("sft",)
) -> ml_collections.ConfigDict:
    """A study on this bed; see sgt_jax/study/run.py for the fields.

    Args:
      arms: name -> what it changes in the base config.
      favourite: the arm that the claim is about.
      about: what is asked and what is held fixed; the report says it.
      references: every arm is compared with these.
    """
    c = ml_collections.ConfigDict()
    c.name, c.seeds, c.about = name, seeds, about
    c.base = get_config()
    c.arms = arms
    c.references = references
    c.favourite = favourite

    def kinds(title: str, *of: str) -> dict:
        return dict(title=title, evaluator="answers", item="accuracy", by="kind", of=of)

    c.scores = dict(
        highest=kinds("highest", "highest"),  # the kind that passed the gates
        leftmost=kinds("leftmost", "leftmost"),
        left_right=kinds("left or right", "left_right"),
        above_below=kinds("above or below", "above_below"),
        controls=kinds("quadrant and size", "quadrant", "size"),
        old=dict(title="questions of the first bed", evaluator="old", item="accuracy"),
        geneval=dict(title="GenEval", evaluator="prompts", item="accuracy"),
        masks=dict(title="segmentation (PQ)", evaluator="masks", item="pq"),
    )
    c.columns = ("highest", "leftmost", "left_right", "above_below", "controls", "old", "geneval", "masks")
    c.headline = "highest"
    c.understanding = ("highest",)
    c.splits = dict(answers="kind", old="kind", prompts="tag")
    c.gates = dict(
        chance=CHANCE, headroom=5.0, oracle=90.0, way=(0.3, 0.7), controls=CONTROLS, spared=("size",), roles={}
    )
    c.cost = COST
    return c
