"""A run that an old commit made and lost at step 10 of 20 goes on with today's code, to the same numbers.

Slow: a process compiles the step and does ten of them.
"""

import json
import sys
import tarfile

import numpy as np
import pytest

from sgt_jax.inference import load
from sgt_jax.reporting.metrics import read_metrics
from tests.support import old_run
from tests.support.fingerprint import saved_params
from tests.support.paths import GOLDEN, REPOSITORY

FOLDER = GOLDEN / "old_run"
pytestmark = pytest.mark.slow
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """(work directory, what the process saw) after today's code has resumed a copy of the old run."""
    folder = tmp_path_factory.mktemp("old_run")
    with tarfile.open(FOLDER / "run.tar.xz") as archive:
        # Python before 3.11.4 has no filters.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    assert not (folder / "run/checkpoints/20").exists()
    old_run.start_child(REPOSITORY, sys.executable, folder / "run", folder / "seen")
    return folder / "run", folder / "seen"


def test_the_state_and_the_data_go_on_to_the_bit_on_every_machine(resumed):
    """What was saved is what is restored, and what rows bring next is what they brought the run that never stopped.

    No arithmetic of an accelerator is in this, so it holds wherever the test runs. Arrays are compared without their names,
    which may change as long as old checkpoints are read.
    """
    _, seen = resumed
    assert old_run.digests(seen) == EXPECTED["seen"]
    assert {f"batch_{step}" for step in range(11, 21)} | {"state"} == set(EXPECTED["seen"])


def test_it_ends_where_the_run_that_never_stopped_ended(resumed):
    """What was saved is continued exactly (the test above), but sums are taken in another order than the old code's.

    Muon iterates on stacks of matrices since, and processors and versions of XLA differ. Losses then agree to 1e-4
    relative (measured with XLA held to SSE4.2: 1e-7), and parameters to a thousandth of the way that the last ten steps
    went (measured: 0.00015 of it, and 4e-6 on the machine of the recording). Faults of ours are far above this: with the
    optimizer's moments lost the end is 0.96 of that way off, with two rows' data exchanged 0.44.
    """
    workdir, _ = resumed
    params = saved_params(workdir)
    lines = read_metrics(workdir, kind="train")
    assert [line["step"] for line in lines] == list(range(1, 21))
    losses = [line["loss"] for line in lines]
    np.testing.assert_allclose(losses, [EXPECTED["losses"][str(step)] for step in range(1, 21)], rtol=1e-4)

    final, ended = np.load(FOLDER / "final.npy"), old_run.as_vector(params)
    way = np.linalg.norm(final - old_run.as_vector(saved_params(workdir, 10)))
    assert way > 0 and np.linalg.norm(ended - final) < 0.001 * way


def test_a_run_from_before_there_were_families_opens_as_bagel(resumed):
    workdir, _ = resumed
    assert "family" not in json.loads((workdir / "config.json").read_text())
    assert load.load(workdir, weights="params").family.name == "bagel"
