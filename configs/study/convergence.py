"""Does the proxy make understanding converge faster? SFT with and without segmentation, scored many times during the run.

Command:   python -m sgt_jax.study --config=configs/study/convergence.py --workdir=/tmp/convergence \
               --results=docs/results/convergence
Hardware:  2 CPU cores; kill it anywhere and run the same command again.

Both arms see the same understanding examples at the same step, so steps and understanding tokens agree between them; decoder
slots (compute) do not: SFT alone continues to 400 steps, where it has computed as many slots as SFT with segmentation has in
its 300. So curves compare at equal steps during the run, and at equal compute at their ends. The learning rate falls over the
last 30 % of each arm's steps, which lifts the end of its curve: compare the curves up to step 210, after which only one arm
still has the full rate. Scores during the run take time, so only answers, POPE and masks are scored, and masks on fewer
pictures.
"""

import ml_collections
from sgt_jax.configs.study import common, first_bed

EVERY = 50  # steps between scores
SFT_STEPS = 400  # as many decoder slots as common.STEPS steps with segmentation (216 a row and step, SFT alone 160)


def get_config() -> ml_collections.ConfigDict:
    """The study; see configs/study/common.py for base and scores."""
    about = (
        "Does joint training converge faster or higher than SFT alone? Two arms with the same understanding examples at the "
        f"same steps, scored before training and after every {EVERY} steps. SFT alone runs for {SFT_STEPS} steps and SFT "
        f"with segmentation for {common.STEPS}, so that both end after the same compute."
    )
    c = common.study("convergence", dict(segmentation={}), "segmentation", about)
    c.arms.sft.total_steps = SFT_STEPS
    c.history = True
    c.base.evaluate_every = EVERY
    c.base.evaluate_at_start = True
    c.arms.base.evaluate_at_start = False  # it has no other step
    scorers = first_bed.evaluators()
    scorers["masks"]["n"] = 48
    c.base.evaluators = ml_collections.ConfigDict({name: scorers[name] for name in ("answers", "pope", "masks")})
    c.columns = tuple(name for name in c.columns if c.scores[name].evaluator in c.base.evaluators)
    c.splits = {name: by for name, by in c.splits.items() if name in c.base.evaluators}
    return c
