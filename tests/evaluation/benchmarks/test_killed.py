"""Real kills: a process that answers, and one that paints, die by SIGKILL and go on to the same bytes."""

import signal
import subprocess
import sys

import pytest

from tests.support import benchmark_folders as folders
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.slow  # six real processes, each of which imports JAX and compiles


def run(after, *arguments):
    command = [sys.executable, "-m", "tests.support.run_benchmark", str(after), *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    "name, more", [("mmvp", ["--limit", "12", "--max-new-tokens", "2"]), ("dpg", ["--steps", "1"])]
)
def test_a_killed_process_goes_on_to_the_same_bytes(tmp_path, name, more):
    if name == "dpg":
        folders.dpg(tmp_path / "data" / "dpg")
    else:
        folders.toolkit_tables(tmp_path / "data", name)
    common = [name, "--checkpoint", "package:nano", "--data", tmp_path / "data", "--batch", "4", *more, "--out"]
    whole = run(0, *common, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    killed = run(1 if name == "dpg" else 7, *common, tmp_path / "killed")
    assert killed.returncode == -signal.SIGKILL
    before = files_of(tmp_path / "killed")
    assert f"{name}/manifest.json" in before and f"{name}/scores.json" not in before
    assert run(0, *common, tmp_path / "killed").returncode == 0
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
