"""When answers are scarce: pools of 250, 1,000 and 4,000 fixed triples of picture, question and answer, at equal visits.

Command:   python -m sgt_jax.study --config=configs/study/scarce.py --workdir=/tmp/scarce --results=docs/results/scarce
Hardware:  2 CPU cores; kill it anywhere and run the same command again. --dry-run says what it costs.

For each pool, all with as many visits to its triples (6,000 conversations of three):

  sft_N          SFT
  sgt_N          SFT with two segmentations for each conversation
  paint_N        first the segmentations (and replay), as many as `sgt_N` paints, then SFT: painting first, then few answers
  strange_N      the same with the masks of another scene: as many steps and paintings before, and no information

The painting stage is one run with the SFT that follows it (config.data.stages), so it is computed again for every pool.
"""

import ml_collections
from sgt_jax.configs.study import dots

POOLS = (250, 1_000, 4_000)  # triples
SEEDS = (300, 301, 302, 303)
TURNS = 3
PAINT_STEPS = dots.STEPS  # rows without a conversation about discs hold as many paintings as those that have one


def pool(triples: int) -> dict:
    """A source of so many triples, the same at every visit."""
    return dict(data=dict(sources=dict(asked=dict(num=-(-triples // TURNS), fixed=True))))


def merged(a: dict, b: dict) -> dict:
    """Changes of two arms together."""
    return a | {k: merged(a[k], v) if isinstance(a.get(k), dict) and isinstance(v, dict) else v for k, v in b.items()}


def paint_first(**more) -> dict:
    """Painting and replay, then SFT and replay; the rate falls over the last steps of SFT as in the other arms."""
    steps = PAINT_STEPS + dots.STEPS
    stages = (
        dict(steps=PAINT_STEPS, weights=dict(understanding=0.0, old_questions=1.25)),
        dict(weights=dict(proxy=0.0)),
    )
    decay = dots.get_config().schedule.decay_fraction * dots.STEPS / steps
    own = dict(total_steps=steps, schedule=dict(decay_fraction=decay), new=dict(data=dict(stages=stages)))
    return merged(own, more)


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/dots.py for base and scores."""
    about = (
        "What does painting add where answers are scarce? Pools of fixed triples of picture, question and answer; every arm "
        "visits its triples as often as the other arms of its pool."
    )
    arms = {}
    for n in POOLS:
        arms[f"sft_{n:04d}"] = merged(dots.alone(), pool(n))
        arms[f"sgt_{n:04d}"] = pool(n)
        arms[f"paint_{n:04d}"] = merged(paint_first(), pool(n))
        arms[f"strange_{n:04d}"] = merged(merged(paint_first(), dots.STRANGE), pool(n))
    first = tuple(f"sft_{n:04d}" for n in POOLS)
    return dots.study("scarce", arms, f"sgt_{POOLS[0]:04d}", about, SEEDS, first)
