"""Can the bed of configs/study/dots.py tell? Base, SFT, SGT, both without replay and with more, and SFT on far more answers.

Command:   python -m sgt_jax.study --config=configs/study/gates.py --workdir=/tmp/gates --results=docs/results/gates
Hardware:  2 CPU cores; kill it anywhere and run the same command again. --dry-run says what it costs.

Seeds 100 and 101 choose steps, kinds and replay, and are not used again. The gates are in docs/studies.md.
"""

import ml_collections
from sgt_jax.configs.study import dots

ORACLE_STEPS = 834  # 12 conversations of three questions a step: 30,000 answers


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/dots.py for base and scores."""
    about = (
        "Does tuning teach on this bed, is there room above SFT, and what does replay change? Every arm but `oracle` sees "
        f"the same {12 * dots.STEPS:,} conversations about discs."
    )
    arms = dict(
        base=dict(total_steps=0),
        sft=dots.alone(),
        sgt={},
        sft_no_replay=dots.without_replay(dots.alone()),
        sgt_no_replay=dots.without_replay({}),
        oracle=dots.alone(total_steps=ORACLE_STEPS),
        sft_drawn=dots.drawn_more(dots.alone(), dots.DRAWS),
        sgt_drawn=dots.drawn_more({}, dots.PAINTS_AND_DRAWS),
    )
    c = dots.study("gates", arms, "sgt", about, (100, 101), ("sft", "base"))
    c.gates.roles = dict(base="base", sft="sft", oracle="oracle")
    return c
