r"""Stores the scores of a finished run in the package, for config.compare="package:NAME".

    python -m sgt_jax.main --config=configs/nano_sgt.py:sft --workdir=/tmp/nano_sft
    python -m tests.support.stored_run /tmp/nano_sft sgt_jax/assets/nano_sft \
        "python -m sgt_jax.main --config=configs/nano_sgt.py:sft --workdir=/tmp/nano_sft"

Kept are the settings, of every item of the last evaluation what scores and the page read, and the command; no weights.
"""

import json
import shutil
import sys
from pathlib import Path

from sgt_jax.evaluation.items import FOLDER, evaluated_steps
from sgt_jax.training.beside import MADE_BY
from sgt_jax.training.resuming import CONFIG

LEFT_OUT = {"picture", "question", "answer"}  # the run that it stands beside has them, too


def kept(values: list) -> list:
    """The values of the items; fractions to four places."""
    return [round(value, 4) if isinstance(value, float) else value for value in values]


def store(workdir: Path, folder: Path, made_by: str) -> None:
    """Writes `folder` from a finished work directory."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / FOLDER).mkdir(parents=True)
    shutil.copy(workdir / CONFIG, folder / CONFIG)
    (folder / MADE_BY).write_text(made_by + "\n")
    for path in sorted((workdir / FOLDER).glob(f"{evaluated_steps(workdir)[-1]:07d}_*.json")):
        items = {name: kept(values) for name, values in json.loads(path.read_text()).items() if name not in LEFT_OUT}
        (folder / FOLDER / path.name).write_text(json.dumps(items, separators=(",", ":")))


if __name__ == "__main__":
    store(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
