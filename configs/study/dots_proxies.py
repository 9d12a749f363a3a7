"""Is it segmentation? Reconstruction and edges on the bed of configs/study/dots.py, with the seeds of the headline.

Command:   python -m sgt_jax.study --config=configs/study/dots_proxies.py --workdir=/tmp/dots_proxies \
               --results=docs/results/dots_proxies --reuse=docs/results/headline
Hardware:  2 CPU cores; kill it anywhere and run the same command again. --dry-run says what it costs.

`sft` and `sgt` are those of the headline, which --reuse takes. A proxy of one's own is one more line in ARMS. Contrasts and
sentences are registered in docs/studies.md.
"""

import ml_collections
from sgt_jax.configs.study import dots, headline

ARMS = dict(reconstruction=dots.paints("reconstruction"), edges=dots.paints("edges"))
SENTENCES = dict(
    first_more="At equal answers, painting the photo itself improves the answers of this model.",
    first_less="At equal answers, painting the photo itself harms the answers of this model.",
    first_equal="At equal answers, painting the photo itself changes the answers by less than 2 points either way.",
    first_open="Whether painting the photo itself changes the answers at equal answers stays open.",
    edges_more="Painting edges improves them.",
    edges_less="Painting edges harms them.",
    edges_equal="Painting edges changes them by less than 2 points either way.",
    edges_open="Whether painting edges changes them stays open.",
    over_photo_more="Segmentation does more than painting the photo.",
    over_photo_less="Painting the photo does more than segmentation: segmentation is not special here.",
    over_photo_equal="Painting the photo does the same as segmentation within 2 points: segmentation is not special here.",
    over_photo_open="Whether segmentation does more than painting the photo stays open.",
    over_edges_more="Segmentation does more than painting edges.",
    over_edges_less="Painting edges does more than segmentation.",
    over_edges_equal="Painting edges does the same as segmentation within 2 points.",
    over_edges_open="Whether segmentation does more than painting edges stays open.",
)


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/dots.py for base and scores."""
    about = (
        "Is it segmentation, or does any painting of what is seen help? All arms see the same conversations about discs and "
        "paint as much."
    )
    c = dots.study("dots_proxies", dict(sft=dots.alone(), sgt={}, **ARMS), "sgt", about, headline.SEEDS + headline.MORE)
    c.registered = dict(
        kinds=headline.KINDS,
        contrasts=dict(
            first=("reconstruction", "sft"), edges=("edges", "sft"), over_photo=("sgt", "reconstruction"),
            over_edges=("sgt", "edges"),
        ),
        order=("first", "edges", "over_photo", "over_edges"),
        holm=("first", "edges", "over_photo", "over_edges"),
        margin=2.0,
        seeds=len(headline.SEEDS + headline.MORE),
        wide=200.0,  # no interval is wider: twelve seeds decide
        more=0,
        sentences=SENTENCES,
        equal=dict(first="the photo, equal answers", edges="edges, equal answers", over_photo="against the photo",
                   over_edges="against edges"),
    )  # fmt: skip
    return c
