"""Which parts of the recipe matter? Each arm makes one change to SFT with segmentation (`mixed`, everything trained).

Command:   python -m sgt_jax.study --config=configs/study/recipe.py --workdir=/tmp/recipe \
               --results=docs/results/recipe --reuse=docs/results/proxies
Hardware:  2 CPU cores; kill it anywhere and run the same command again.

All arms see the same understanding examples and, except `photo_target`, about as many segmentations (7,200):

  mixed         the base: proxy, understanding and replay in every step
  two_stage     first the proxy (and replay), then SFT (and replay) as in the arm `sft`; as many examples of both, but more
                steps, since the stages come one after the other; the learning rate falls over the last 90 steps in both
  frozen_vit    the understanding encoder is not trained
  latents       the model also sees the photo as clean latents while it paints, and need not understand it
  text_weight   the text loss counts 1.5, as in the released script, and not 1
  photo_target  the segmentation prompt with the input photo as target: the fault of the released loader in its first weeks
"""

import ml_collections
from sgt_jax.configs.study import common, first_bed

# As many paintings as `mixed` makes in all its steps: rows without a conversation hold 1.82 of them, and not 1.55.
PAINT_STEPS = round(0.85 * common.STEPS)


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/common.py for base and scores."""
    about = (
        "Which parts of the recipe matter? Each arm changes one thing in SFT with segmentation (`mixed`); all see the same "
        "understanding examples."
    )
    steps = PAINT_STEPS + common.STEPS
    decay = first_bed.get_config().schedule.decay_fraction
    stages = (
        dict(steps=PAINT_STEPS, weights=dict(understanding=0.0)),
        dict(weights=dict(proxy=0.0)),
    )
    fixed = ("^vae/", "pos_embed")
    arms = dict(
        mixed={},
        two_stage=dict(
            total_steps=steps,
            schedule=dict(decay_fraction=decay * common.STEPS / steps),
            new=dict(data=dict(stages=stages)),
        ),
        frozen_vit=dict(freeze=(*fixed, "^vit/")),
        latents=dict(
            data=dict(budgets=common.budgets(184, 48, 80, 5)),
            new=dict(data=dict(mixture=dict(proxy=dict(latents=True)))),
        ),
        text_weight=dict(objective=dict(ce_weight=1.5)),
        photo_target=dict(new=dict(data=dict(mixture=dict(proxy=dict(photo_as_target=True))))),
    )
    return common.study("recipe", arms, "mixed", about)
