"""When answers are scarce: pools of 250, 1,000 and 4,000 fixed triples of picture, question and answer, at equal visits.

Command:   python -m sgt_jax.study --config=configs/study/scarce.py --workdir=/tmp/scarce --results=docs/results/scarce
Hardware:  2 CPU cores; kill it anywhere and run the same command again. --dry-run says what it costs.

For each pool, all with as many visits to its triples (6,000 conversations of three):

  sft_N          SFT
  sgt_N          SFT with two segmentations for each conversation
  paint_N        SFT on what `painter` has learnt: painting first, then few answers
  strange_N      SFT on what `strange_painter` has learnt: as many steps and paintings before, of another scene's masks

`painter` and `strange_painter` paint as much as `sgt_N`, beside the replay, and answer no question about discs. One run of
them a seed serves all pools.
"""

import ml_collections
from sgt_jax.configs.study import dots

POOLS = (250, 1_000, 4_000)  # triples
SEEDS = (300, 301, 302, 303)
TURNS = 3
KINDS = ("highest",)  # that passed the gates of configs/study/gates.py
DECIDED = 1_000  # the pool of the registered contrasts; docs/studies.md
SENTENCES = dict(
    first_more="Where answers are scarce, painting segmentations first improves the answers of this model.",
    first_less="Where answers are scarce, painting segmentations first harms the answers of this model.",
    first_equal="Where answers are scarce, painting segmentations first changes the answers by less than 2 points.",
    first_open="Whether painting segmentations first changes the answers where they are scarce stays open.",
    mixed_more="Mixing them in improves them.",
    mixed_less="Mixing them in harms them.",
    mixed_equal="Mixing them in changes them by less than 2 points either way.",
    mixed_open="Whether mixing them in changes them stays open.",
    strange_more="What the masks say of the picture matters there: masks of another scene do less.",
    strange_less="Masks of another scene do more there, so it is not what the masks say of the picture.",
    strange_equal="Masks of another scene do the same there within 2 points, so it is not what the masks say of the picture.",
    strange_open="Whether it is what the masks say of the picture stays open there.",
)


def pool(triples: int) -> dict:
    """A source of so many triples, the same at every visit."""
    return dict(data=dict(sources=dict(asked=dict(num=-(-triples // TURNS), fixed=True))))


def merged(a: dict, b: dict) -> dict:
    """Changes of two arms together."""
    return a | {k: merged(a[k], v) if isinstance(a.get(k), dict) and isinstance(v, dict) else v for k, v in b.items()}


# The proxy and the replay; old questions take the room of those about discs, so that rows are as full.
PAINTER = dict(data=dict(mixture=dict(understanding=dict(weight=0.0), old_questions=dict(weight=1.25))))


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/dots.py for base and scores."""
    about = (
        "What does painting add where answers are scarce? Pools of fixed triples of picture, question and answer; every arm "
        "visits its triples as often as the other arms of its pool."
    )
    arms = dict(painter=PAINTER, strange_painter=merged(PAINTER, dots.STRANGE))
    for n in POOLS:
        arms[f"sft_{n:04d}"] = merged(dots.alone(), pool(n))
        arms[f"sgt_{n:04d}"] = pool(n)
        arms[f"paint_{n:04d}"] = merged(dots.alone(after="painter"), pool(n))
        arms[f"strange_{n:04d}"] = merged(dots.alone(after="strange_painter"), pool(n))
    first = tuple(f"sft_{n:04d}" for n in POOLS)
    c = dots.study("scarce", arms, f"sgt_{POOLS[0]:04d}", about, SEEDS, first)
    c.registered = dict(
        kinds=KINDS,
        contrasts={
            name: tuple(f"{arm}_{DECIDED:04d}" for arm in pair)
            for name, pair in dict(first=("paint", "sft"), mixed=("sgt", "sft"), strange=("paint", "strange")).items()
        },
        order=("first", "mixed", "strange"),
        holm=("first", "mixed", "strange"),
        margin=2.0,
        seeds=len(SEEDS),
        wide=200.0,  # no interval is wider: four seeds decide
        more=0,
        sentences=SENTENCES,
        equal=dict(first="painting first", mixed="painting beside", strange="masks of another scene"),
    )
    # How many answers does a painting replace? Each arm's score is placed on SFT's, over the size of the pool.
    c.replaced = dict(
        kinds=KINDS,
        pools=POOLS,
        curve="sft_{:04d}",
        arms=("sgt_{:04d}", "paint_{:04d}", "strange_{:04d}"),
        paintings=2 * 12 * dots.STEPS,
    )
    return c
