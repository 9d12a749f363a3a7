"""Is it segmentation? Reconstruction and edges on the bed of configs/study/dots.py, with the seeds of the headline.

Command:   python -m sgt_jax.study --config=configs/study/dots_proxies.py --workdir=/tmp/dots_proxies \
               --results=docs/results/dots_proxies --reuse=docs/results/headline
Hardware:  2 CPU cores; kill it anywhere and run the same command again. --dry-run says what it costs.

`sft` and `sgt` are those of the headline, which --reuse takes. A proxy of one's own is one more line in ARMS.
"""

import ml_collections
from sgt_jax.configs.study import dots, headline

ARMS = dict(reconstruction=dots.paints("reconstruction"), edges=dots.paints("edges"))


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/dots.py for base and scores."""
    about = (
        "Is it segmentation, or does any painting of what is seen help? All arms see the same conversations about discs and "
        "paint as much."
    )
    return dots.study("dots_proxies", dict(sft=dots.alone(), sgt={}, **ARMS), "sgt", about, headline.SEEDS + headline.MORE)
