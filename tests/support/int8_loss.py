"""What a base of 8-bit integers costs a run of adapters: training losses beside those over the float base, same batches.

    python -m tests.support.int8_loss WORKDIR --out docs/results/adapters/losses.json

WORKDIR is that of the study configs/study/adapters.py, run with --keep. Losses are means of what was
logged from step 150 to 200; differences are paired by seed, with a t interval.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats

from sgt_jax.reporting.metrics import read_metrics

STEPS = range(150, 201)
ARMS = ("lora", "lora_int8")


def losses(workdir: Path, arm: str) -> dict[int, float]:
    """{seed: mean training loss over STEPS} of the runs of an arm."""
    found = {}
    for folder in sorted((workdir / "arms").glob(f"{arm}_[0-9]*")):
        if folder.is_dir() and (lines := [x["loss"] for x in read_metrics(folder, kind="train") if x["step"] in STEPS]):
            found[int(folder.name.removeprefix(f"{arm}_"))] = float(np.mean(lines))
    return found


def compared(one: dict[int, float], two: dict[int, float]) -> dict[str, float]:
    """The mean of two - one over the seeds of both, and the ends of its 95 % interval."""
    seeds = sorted(one.keys() & two.keys())
    differences = np.array([two[seed] - one[seed] for seed in seeds])
    half = stats.t.ppf(0.975, len(seeds) - 1) * differences.std(ddof=1) / len(seeds) ** 0.5
    return {"mean": differences.mean(), "low": differences.mean() - half, "high": differences.mean() + half}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = {arm: losses(options.workdir, arm) for arm in ARMS}
    result = {"steps": [STEPS.start, STEPS.stop - 1], "losses": found, "difference": compared(*(found[arm] for arm in ARMS))}
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["difference"]))


if __name__ == "__main__":
    main()
