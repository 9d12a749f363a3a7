"""A run that is killed with SIGKILL, anywhere, resumes to the bit.

Slow: five real processes train, and each imports and traces for itself. Kills at random moments are the campaign's
(tests/support/kills.py, a sample of it in test_ends.py); here are those that it does not draw: with read threads, in a save's
commit, and of OmniGen2. In the default tier tests/training/test_old_run.py resumes a run that was killed long ago, and
tests/models/test_family.py one that was stopped.
"""

import functools
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from sgt_jax.reporting.metrics import read_metrics
from tests.support.paths import REPOSITORY, helper

pytestmark = pytest.mark.slow


def run(family, *asked, die="never", expect=0):
    """Runs [(work directory, read threads), ...] in one child process; what each printed."""
    arguments = [x for workdir, threads in asked for x in (workdir, threads)]
    child = subprocess.run(
        helper("run_tiny", family, die, *arguments), cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert child.returncode == expect, child.stdout + child.stderr
    return re.split(r"^== .*\n", child.stdout, flags=re.MULTILINE)[1:]


class Runs(NamedTuple):
    """Work directories of twenty steps each, and what the process printed that ended them."""

    straight: Path  # never interrupted
    killed: Path  # at step 13, with eight read threads; then resumed
    torn: Path | None  # killed in the middle of the save of step 20, without read threads; then resumed
    left: set[str]  # what that kill left under checkpoints/
    printed: dict[Path, str]


FAMILIES = ("bagel", "omnigen2")
TORN = ("bagel",)  # saving is the same for every family


@pytest.fixture(scope="module")
def runs_of(tmp_path_factory):
    """Family -> its runs, made when they are first asked for."""
    return functools.cache(lambda family: made(family, tmp_path_factory.mktemp))


def made(family, folder):
    """Each kill ends a process of its own; one more, new to all of them, resumes those and runs the straight one."""
    straight, killed, torn = folder("straight"), folder("killed"), folder("torn") if family in TORN else None
    run(family, (killed, 8), die="step 13", expect=-9)
    asked = [(killed, 8), (straight, 0)]
    left = set()
    if torn:
        run(family, (torn, 0), die="save 20", expect=-9)
        left = {p.name for p in (torn / "checkpoints").iterdir()}
        asked.insert(0, (torn, 0))
    printed = {a[0]: text for a, text in zip(asked, run(family, *asked), strict=True)}
    return Runs(straight, killed, torn, left, printed)


def same(a, b):
    one, two = np.load(a / "final.npz"), np.load(b / "final.npz")
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def resumed_as_if_nothing_had_been(runs, workdir):
    assert "resuming at step 10" in runs.printed[workdir] and "resuming" not in runs.printed[runs.straight]
    same(runs.straight, workdir)
    steps = [line["step"] for line in read_metrics(workdir, kind="train")]
    assert steps == sorted(set(steps)) and steps[-1] == 20


@pytest.mark.parametrize("family", FAMILIES)
def test_killed_and_resumed_equals_uninterrupted_to_the_bit(runs_of, family):
    runs = runs_of(family)
    resumed_as_if_nothing_had_been(runs, runs.killed)


@pytest.mark.parametrize("family", TORN)
def test_killed_in_the_middle_of_a_save_continues_from_the_one_before(runs_of, family):
    runs = runs_of(family)
    left = runs.left
    assert "10" in left and "20" not in left and len(left) > 1, f"nothing half-written was left: {left}"
    resumed_as_if_nothing_had_been(runs, runs.torn)
