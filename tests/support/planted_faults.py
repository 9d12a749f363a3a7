"""Plants faults, one at a time, in a copy of the repository and says which of them the tests notice. A campaign tool.

    python -m tests.support.planted_faults [NAME ...] [--repository ../before --python ../before/.venv/bin/python]

Prints "caught", "missed" or why the test files cannot say, and ends with status 1 unless all are caught. About ten minutes.
Each fault is a change of one line that leaves a program which runs, trains and prints likely numbers. The line is looked
for in all files, and of the test files those count that are there, so that versions with other layouts can be compared.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import REPOSITORY

COPIED = ("sgt_jax", "configs", "launch", "tests", "docs", "benchmarks", "setup.cfg", "pyproject.toml", "README.md")


class Fault(NamedTuple):
    """One planted fault.

    Attributes:
      what: what it does wrong.
      sound, broken: a text that stands exactly once below sgt_jax/, and what takes its place.
      tests: files that should notice, in any layout of tests/; at least one must be there.
    """

    what: str
    sound: str
    broken: str
    tests: tuple[str, ...]


FAULTS = {
    "mask_rule": Fault(
        "later tokens of a sample attend to noisy latents",
        "earlier = (k.split < q.split) & (k.mode != NOISE)",
        "earlier = k.split < q.split",
        ("tests/test_batch.py",),
    ),
    "loss_count": Fault(
        "the cross-entropy is divided by padding, too",
        '"ce_count": jnp.sum(weight > 0)',
        '"ce_count": jnp.sum(weight >= 0)',
        ("tests/training/objectives/test_sgt.py", "tests/test_objective.py"),
    ),
    "record_order": Fault(
        "records come in the order of their files, every epoch the same",
        ".seed(seed).shuffle().repeat()",
        ".seed(seed).repeat()",
        ("tests/data/test_pipeline.py", "tests/data/test_iterator.py"),
    ),
    "resumed_pool": Fault(
        "a resumed row forgets the samples that waited in its pool",
        'self._restart(state["position"], state["pool"], ',
        'self._restart(state["position"], [], ',
        ("tests/data/test_pipeline.py", "tests/data/test_iterator.py"),
    ),
    "ema_decay": Fault(
        "the moving average follows the parameters at the wrong rate",
        "decay * e + (1 - decay) * p",
        "(1 - decay) * e + decay * p",
        ("tests/training/test_optimizer.py", "tests/test_optimizer.py"),
    ),
    "resize_rule": Fault(
        "sides are rounded to the stride at once, not to a pixel first",
        "round(round(side * scale) / stride)",
        "round(side * scale / stride)",
        ("tests/data/pictures/test_resizing.py", "tests/data/test_images.py"),
    ),
    "label_shift": Fault(
        "a token is trained to repeat itself, not to foretell the next one",
        "target=ids[1:], weight=",
        "target=ids[:-1], weight=",
        ("tests/parity/bagel/test_inference.py", "tests/commands/test_parity_inference.py"),
    ),
    "time_shift": Fault(
        "training times move the wrong way",
        "    return shift * t / (1 + (shift - 1) * t)\n",
        "    return t / (shift - (shift - 1) * t)\n",
        ("tests/models/test_layers.py",),
    ),
    "pointer_shift": Fault(
        "labels of the second sample of a pack point into the first one",
        "values + used[points_to], values)",
        "values, values)",
        ("tests/data/test_pipeline.py",),
    ),
    "freeze_mask": Fault(
        "a pattern freezes only what begins with it, and trains the position tables",
        "lambda path, _: not any(pattern.search(",
        "lambda path, _: not any(pattern.match(",
        ("tests/training/test_optimizer.py", "tests/test_optimizer.py"),
    ),
    "panoptic_matching": Fault(
        "panoptic quality matches masks that overlap too little",
        "hits = iou > 0.5",
        "hits = iou > 0.4",
        ("tests/evaluation/rules/test_segmentation.py", "tests/evaluation/test_segmentation.py"),
    ),
}


def plant(fault: Fault, copy: Path) -> Path:
    """Changes the one file below copy/sgt_jax that holds the sound text; returns it.

    Raises:
      ValueError: no file holds it, or it stands in more places than one.
    """
    holding = [path for path in sorted((copy / "sgt_jax").rglob("*.py")) if fault.sound in path.read_text()]
    if len(holding) != 1 or holding[0].read_text().count(fault.sound) != 1:
        raise ValueError(f"{fault.sound!r} does not stand in one place but in {[path.name for path in holding]}")
    holding[0].write_text(holding[0].read_text().replace(fault.sound, fault.broken))
    return holding[0]


def copied(repository: Path, folder: Path) -> Path:
    """A copy of what tests need of a checkout; the copy's sgt_jax is the one that is imported there."""
    for name in COPIED:
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


def passes(copy: Path, python: str, tests: Sequence[str]) -> bool:
    """Whether these test files pass in a copy.

    Raises:
      RuntimeError: they could not be run, or it is not the copy that they import.
    """
    variables = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "JAX_PLATFORMS": "cpu"}
    shown = [python, "-c", "import sgt_jax; print(sgt_jax.__file__)"]
    where = subprocess.run(shown, cwd=copy, env=variables, capture_output=True, text=True, check=True).stdout
    if not Path(where.strip()).is_relative_to(copy):
        raise RuntimeError(f"the tests would import {where.strip()}")
    command = [python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow", *tests]
    done = subprocess.run(command, cwd=copy, env=variables, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(tests)}: status {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.returncode == 0


def caught(fault: Fault, repository: Path, python: str, sound: dict[tuple[str, ...], bool]) -> str:
    """ "caught", "missed", or why the test files say nothing; `sound` remembers which of them pass without a fault."""
    tests = tuple(test for test in fault.tests if (repository / test).exists())
    if not tests:
        return f"none of {fault.tests} is there"
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(repository, Path(folder).resolve())
        if tests not in sound:
            sound[tests] = passes(copy, python, tests)
        if not sound[tests]:
            return f"{' '.join(tests)}: fails without the fault, too"
        plant(fault, copy)
        return "missed" if passes(copy, python, tests) else "caught"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(FAULTS), metavar="NAME", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="a checkout")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of that checkout's environment")
    options = parser.parse_args(arguments)
    results, sound = [], {}
    for name in options.names:
        start = time.monotonic()
        results.append(caught(FAULTS[name], options.repository.absolute(), options.python, sound))
        print(f"{name:18} {results[-1]:8} {time.monotonic() - start:5.0f} s  {FAULTS[name].what}", flush=True)
    print(f"{results.count('caught')} of {len(results)} caught")
    return 0 if results.count("caught") == len(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
