"""How many different proxy scenes? From 30 to 30,000, with the same number of paintings (the paper's data scaling).

Command:   python -m sgt_jax.study --config=configs/study/scaling.py --workdir=/tmp/scaling \
               --results=docs/results/scaling --reuse=docs/results/proxies
Hardware:  2 CPU cores; kill it anywhere and run the same command again.

Arms differ in the number of *distinct* scenes whose segmentation is painted and in nothing else: steps, compute,
understanding examples, replay and the number of paintings (about 7,200) are the same, so a small pool is repeated: 30 scenes
240 times each, and of 30,000 fewer than a quarter are seen. The paper does not say whether its runs with more samples also
trained for longer; here only variety grows.
"""

import ml_collections
from sgt_jax.configs.study import common

SCENES = (30, 1_000, 30_000)  # the last one is what configs/nano_sgt.py has


def name(scenes: int) -> str:
    """What the arm with so many scenes is called; names sort as numbers do."""
    return f"scenes_{scenes:05d}"


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/common.py for base and scores."""
    about = (
        "How many different pictures does the proxy need? All arms paint about as many segmentations in as many steps and "
        "see the same understanding examples; they differ in how many distinct scenes the paintings are of."
    )
    arms = {name(n): dict(data=dict(sources=dict(painted=dict(num=n)))) for n in SCENES}
    c = common.study("scaling", arms, name(SCENES[-1]), about)
    c.curve = dict(
        label="distinct segmentation scenes",
        log=True,
        points=dict(sft=0.0) | {name(n): float(n) for n in SCENES},
        paper="scaling",
    )
    return c
