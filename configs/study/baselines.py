"""Compares SGT with RecA (paint the photo again) and UniMRG (photo, depth and outlines), in the same code.

Command:   python -m sgt_jax.study --config=configs/study/baselines.py --workdir=/tmp/baselines \
               --results=docs/results/baselines --reuse=docs/results/proxies
Hardware:  2 CPU cores; kill it anywhere and run the same command again.

  segmentation    SGT: proxy : understanding = 1.5 : 1
  reconstruction  RecA's target, mixed with SFT like every other proxy
  reca            RecA's own recipe: reconstruction without understanding data, with everything frozen that answers depend
                  on, so that only drawing can change
  unimrg          UniMRG's three targets taking turns, together as many as the other arms' one; its own proportions, one
                  understanding example to one of each, would be twice as many

Understanding examples and replay are the same in all arms but `reca`, which has no understanding examples.
"""

import ml_collections
from sgt_jax.configs.study import common

UNIMRG = "reconstruction+depth+outlines"
# Everything on the way from a picture or a text to an answer.
UNDERSTANDING = ("^vit/", "^connector/", "^decoder/.*und", "^decoder/(embed|lm_head)/")


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/common.py for base and scores."""
    about = (
        "How does segmentation compare with its published relatives, RecA and UniMRG? Same base model, replay and scores; "
        "arms differ in what is painted, `reca` also in what is trained."
    )
    arms = dict(
        segmentation=common.painting("segmentation"),
        reconstruction=common.painting("reconstruction"),
        reca=dict(
            data=dict(mixture=dict(proxy=dict(proxy="reconstruction"), understanding=dict(weight=0.0))),
            freeze=("^vae/", "pos_embed", *UNDERSTANDING),
        ),
        unimrg=common.painting(UNIMRG),
    )
    return common.study("baselines", arms, "segmentation", about)
