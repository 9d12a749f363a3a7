"""Can the bed of configs/study/dots.py tell? Base, SFT, SGT, with little replay, with more and without; far more answers.

Command:   python -m sgt_jax.study --config=configs/study/gates.py --workdir=/tmp/gates --results=docs/results/gates
Hardware:  2 CPU cores; kill it anywhere and run the same command again. --dry-run says what it costs.

Seeds 100 and 101 choose steps, kinds and replay, and are not used again. The gates are in docs/studies.md.
"""

import ml_collections
from sgt_jax.configs.study import dots

ORACLE_STEPS = 834  # 12 conversations of three questions a step: 30,000 answers
DRAWN = dict(text_to_image=dict(weight=2.0))  # as in configs/study/dots.py; here the base draws a quarter of that


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/dots.py for base and scores."""
    about = (
        "Does tuning teach on this bed, is there room above SFT, and what does replay change? Every arm but `oracle` sees "
        f"the same {12 * dots.STEPS:,} conversations about discs."
    )
    sft = dots.alone(dots.ALONE_FEW)
    arms = dict(
        base=dict(total_steps=0),
        sft=sft,
        sgt={},
        sft_no_replay=dots.without_replay(sft),
        sgt_no_replay=dots.without_replay({}),
        oracle=dots.alone(dots.ALONE_FEW, total_steps=ORACLE_STEPS),
        sft_drawn=dict(data=dict(mixture=dict(proxy=dict(weight=0.0)) | DRAWN, budgets=dots.ALONE)),
        sgt_drawn=dict(data=dict(mixture=DRAWN, budgets=dots.PAINTS)),
    )
    c = dots.study("gates", arms, "sgt_drawn", about, (100, 101), ("sft_drawn", "base"))
    c.base.data.budgets = dots.PAINTS_FEW
    c.base.data.mixture.text_to_image.weight = 0.5
    c.base.evaluators.masks.n = 100
    c.gates.roles = dict(base="base", sft="sft_drawn", oracle="oracle")
    return c
