"""The first study: is segmentation the best proxy? One base model, one arm per proxy, several seeds.

Command:   python -m sgt_jax.study --config=configs/study/proxies.py --workdir=/tmp/proxies --results=docs/results/proxies
Hardware:  2 CPU cores; kill it anywhere and run the same command again.

The base model is the pretrained nano model that ships with the package, see configs/nano_sgt.py. Every arm starts from it
and sees the same *understanding* examples in the same order, and the same replay of drawing and editing; arms differ in the
proxy that fills the rest of their packs. `sft` leaves that room empty: equal understanding examples, less compute.
configs/study/convergence.py shows SFT alone at equal compute.
"""

import ml_collections
from sgt_jax.configs.study import common

PROXIES = ("segmentation", "outlines", "detection", "depth", "inpainting", "edges", "reconstruction")

arm = common.painting  # what an arm with a proxy changes in the base config


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/common.py for base and scores."""
    return common.study(
        "proxies", {proxy: arm(proxy) for proxy in PROXIES}, favourite="segmentation", seeds=(0, 1, 2, 3, 4)
    )
