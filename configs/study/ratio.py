"""How much segmentation? Proxy : understanding from 0:1 to 3:1, in samples (the paper's ratio ablation).

Command:   python -m sgt_jax.study --config=configs/study/ratio.py --workdir=/tmp/ratio \
               --results=docs/results/ratio --reuse=docs/results/proxies
Hardware:  2 CPU cores; kill it anywhere and run the same command again.

All arms see the same understanding examples, 16 conversations a step for 300 steps, and the same replay per conversation;
rows are as long as their proxies need. So compute grows with the ratio: the study asks what more painting adds, not what is
best for a given cost.
"""

import ml_collections
from sgt_jax.configs.study import common

# Proxies per understanding example -> budgets in which every row still finds room for one conversation.
# 1.5 is what configs/nano_sgt.py does, so it is the arm `segmentation` of the other studies.
RATIOS = {
    1.0: common.budgets(144, 48, 48, 3),
    1.5: None,
    2.0: common.budgets(184, 64, 64, 4),
    2.5: common.budgets(200, 64, 64, 4),
    3.0: common.budgets(216, 80, 80, 5),
}
UNDERSTANDING = 4.0  # weight of understanding in the base's mixture


def name(ratio: float) -> str:
    """What the arm of a ratio is called: "ratio_1_5"."""
    return f"ratio_{ratio:.1f}".replace(".", "_")


def arm(ratio: float) -> dict:
    """What an arm of `ratio` proxies per understanding example changes in the base config."""
    if RATIOS[ratio] is None:
        return {}
    return dict(data=dict(mixture=dict(proxy=dict(weight=UNDERSTANDING * ratio)), budgets=RATIOS[ratio]))


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/common.py for base and scores."""
    about = (
        "How many segmentation examples per understanding example are best? All arms see the same understanding examples "
        "and the same replay of drawing and editing; the number of segmentation examples grows, and compute with it."
    )
    c = common.study("ratio", {name(ratio): arm(ratio) for ratio in RATIOS}, name(2.0), about)
    c.curve = dict(
        label="segmentation examples per understanding example",
        log=False,
        points=dict(sft=0.0) | {name(ratio): ratio for ratio in RATIOS},
        paper="ratio",
    )
    return c
