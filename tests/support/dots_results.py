"""Results folders of studies on the bed of discs as they would be written, with accuracies that a test plants."""

import numpy as np

from sgt_jax.study import arms, records
from sgt_jax.study.run import write_study

KINDS = ("left_right", "above_below", "leftmost", "highest", "quadrant", "size")
EACH = 400  # items a kind


def planted(folder, study, accuracy, only=None):
    """Writes runs of a study with true fingerprints.

    Args:
      accuracy: (arm, seed, kind) -> share of the items that are right; exactly so, the same items first.
      only: arms that have runs; all by default.
    """
    write_study(study, folder)
    kinds = [kind for kind in KINDS for _ in range(EACH)]
    labels = {"answers": {"kind": kinds}, "old": {"kind": ["count"]}, "prompts": {"tag": ["x"]}, "masks": {}}
    records.write_json(folder / records.ITEMS, labels)
    for run in arms.runs(study):
        if only and run.arm not in only:
            continue
        right = np.concatenate([np.arange(EACH) < round(accuracy(run.arm, run.seed, kind) * EACH) for kind in KINDS])
        one, painted = {"accuracy": "1"}, {"pq": records.pack(np.ones(study.base.evaluators.masks.n))}
        items = {"answers": {"accuracy": records.pack(right)}, "old": one, "prompts": one, "masks": painted}
        config = arms.run_config(study, run)
        record = dict(arm=run.arm, seed=run.seed, steps=config.total_steps, fingerprint=arms.fingerprint(config), samples={},
                      items=items, timing={})  # fmt: skip
        records.write_json(folder / records.RUNS / f"{run.name}.json", record)
    return folder
