"""The headline: does painting parts help answering on the bed of configs/study/dots.py? Registered in docs/studies.md.

Command:   python -m sgt_jax.study --config=configs/study/headline.py --workdir=/tmp/headline --results=docs/results/headline
Hardware:  2 CPU cores; start it twice, kill it anywhere and run the same command again. --dry-run says what it costs.

  sft           answers and replay, nothing painted from what is seen
  sgt           the same, and two segmentations for each conversation
  sgt_strange   the same, but each mask is of another scene: as many paintings of the same pixels, and no information
  sft_long      SFT for as many decoder slots as `sgt` computes, with fresh answers
  sft_bare, sgt_bare   `sft` and `sgt` without replay: reported beside, since replay moved the effect at the gates

Arms of one seed are run one after another, so that the seeds that are there are a paired design at any time.
"""

import ml_collections
from sgt_jax.configs.study import dots

SEEDS = (200, 201, 202, 203, 204, 205, 206, 207)  # as registered
# The first contrast's interval at those was wider than `wide`, so these are run, too, and the twelve decide.
MORE = (208, 209, 210, 211)
KINDS = ("highest",)  # that passed the gates; see docs/studies.md
SENTENCES = dict(
    first_more="At equal answers, painting segmentations improves the answers of this model.",
    first_less="At equal answers, painting segmentations harms the answers of this model.",
    first_equal="At equal answers, painting segmentations changes the answers by less than 2 points either way.",
    first_open="Whether painting segmentations changes the answers at equal answers stays open.",
    strange_more="What the masks say of the picture matters: masks of another scene do less.",
    strange_less="Masks of another scene do more, so it is not what the masks say of the picture.",
    strange_equal="Masks of another scene do the same within 2 points, so it is not what the masks say of the picture.",
    strange_open="Whether it is what the masks say of the picture stays open.",
    compute_more="At equal compute, too, painting is the better use of it.",
    compute_less="At equal compute, SFT alone with more answers is better.",
    compute_equal="At equal compute, both are the same within 2 points.",
    compute_open="At equal compute, which of both is better stays open.",
)


def register(c: ml_collections.ConfigDict) -> None:
    """Adds the registered contrasts to a study."""
    c.registered = dict(
        kinds=KINDS,
        contrasts=dict(first=("sgt", "sft"), strange=("sgt", "sgt_strange"), compute=("sgt", "sft_long")),
        order=("first", "strange", "compute"),
        holm=("strange", "compute"),
        margin=2.0,
        seeds=len(SEEDS),
        wide=4.0,
        more=len(MORE),
        sentences=SENTENCES,
        # What each holds equal, or changes: for its picture.
        equal=dict(first="equal answers", strange="masks of another scene", compute="equal compute"),
    )


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/dots.py for base and scores."""
    about = (
        "Does painting segmentations help answering? All arms but `sft_long` see the same conversations about discs at the "
        "same steps; `sft_long` computes as many decoder slots as the arms that paint."
    )
    arms = dict(
        sft=dots.alone(),
        sgt={},
        sgt_strange=dots.STRANGE,
        sft_long=dots.alone(total_steps=dots.EQUAL_COMPUTE_STEPS),
        sft_bare=dots.without_replay(dots.alone(dots.ALONE_FEW)),
        sgt_bare=dots.without_replay(dict(data=dict(budgets=dots.PAINTS_FEW))),
    )
    c = dots.study("headline", arms, "sgt", about, SEEDS + MORE)
    register(c)
    # Are the pictures that `sgt` paints right also those that it answers about, more so than `sft` on the same pictures?
    c.conditional = dict(painter="sgt", against="sft", least=0.5)
    return c
