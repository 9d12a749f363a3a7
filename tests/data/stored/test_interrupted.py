"""An ingest that is killed, interrupted or loses a worker leaves nothing half-written and goes on from there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sgt_jax.data.stored import folder as stored_folder
from tests.support import hostile_files as hostile
from tests.support.paths import REPOSITORY

# A source whose third shard waits until a file appears, so that a test can do something to a run that is under way.
WAITING = """
import dataclasses, os, pathlib, sys, time
from sgt_jax.data import sources
from sgt_jax.data.stored.record import Record, Shard, Source

@dataclasses.dataclass(frozen=True)
class Waiting(Shard):
    name: str
    root: str
    def __iter__(self):
        yield Record(self.name + "/0", caption="x")
        if self.name == "2":
            pathlib.Path(self.root, "pid").write_text(str(os.getpid()))
            while not os.path.exists(self.root + "/go"):
                time.sleep(0.05)
        yield Record(self.name + "/1", caption="y")

class WaitingSource(Source):
    def __init__(self, root):
        self.root = root
    def shards(self, size=0):
        return [Waiting(str(i), self.root) for i in range(5)]

sources.SOURCES["waiting"] = ("waiting_source", "WaitingSource")
sys.modules["sgt_jax.data.sources.waiting_source"] = sys.modules[__name__]
if __name__ == "__main__":
    import waiting
    from sgt_jax.commands.ingest import main
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def waiting(tmp_path):
    """Starts `ingest` of the waiting source in a process of its own; yields (start, root, out)."""
    hostile.write(tmp_path / "code/waiting.py", WAITING.encode())
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    repository = str(REPOSITORY)
    paths = os.pathsep.join([str(tmp_path / "code"), repository])
    runs = []

    def start(*options):
        (root / "pid").unlink(missing_ok=True)
        words = [sys.executable, str(tmp_path / "code/waiting.py"), "type=waiting", f"root={root}", str(out), *options]
        # A shell that starts the suite in the background has it ignore Ctrl-C, and so would its children.
        run = subprocess.Popen(
            words, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        runs.append(run)
        return run

    yield start, root, out
    (root / "go").touch()
    for run in runs:
        run.kill()
        run.wait()


def pid_in_shard_two(root):
    for _ in range(600):
        if (root / "pid").exists() and (text := (root / "pid").read_text()):
            return int(text)
        time.sleep(0.05)
    raise AssertionError("the waiting shard was never begun")


def gone(pid):
    """Whether a process has ended (or waits to be reaped); it gets ten seconds."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_a_killed_worker_ends_the_run_with_advice_and_the_next_run_finishes(waiting):
    start, root, out = waiting
    run = start("--workers=2")
    worker = pid_in_shard_two(root)
    assert worker != run.pid
    os.kill(worker, signal.SIGKILL)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 1 and "a worker process was killed (out of memory?)" in told and "part-00002" in told
    assert "Traceback" not in told
    (root / "go").touch()
    again = start("--workers=2")
    _, told = again.communicate(timeout=60)
    assert again.returncode == 0, told
    names = [r["name"] for r in stored_folder.lengths(out, range(5)).to_pylist()]
    assert names == [f"{i}/{j}" for i in range(5) for j in range(2)]


def test_ctrl_c_ends_the_run_and_its_workers(waiting):
    start, root, out = waiting
    run = start("--workers=2")
    worker = pid_in_shard_two(root)
    run.send_signal(signal.SIGINT)
    time.sleep(0.3)
    (root / "go").touch()  # the shard that is being read comes to its next record
    _, told = run.communicate(timeout=60)
    assert (
        run.returncode == 130 and "stopped; run the same command again to continue" in told and "Traceback" not in told
    )
    assert gone(worker) and not list(out.glob(".part*")) and not (out / "manifest.json").exists()


def test_a_killed_run_takes_its_workers_along_locks_others_out_and_goes_on(waiting):
    start, root, out = waiting
    run = start("--workers=2")
    worker = pid_in_shard_two(root)
    second = start("--workers=0")
    _, told = second.communicate(timeout=60)
    assert second.returncode == 1 and "another ingest is writing here" in told
    done = lambda: {p.name for p in out.glob("part-*.json")}  # noqa: E731
    for _ in range(200):
        if len(done()) >= 4:
            break
        time.sleep(0.05)
    assert len(done()) == 4 and list(out.glob(".part-00002*tmp"))
    kept = {name: (out / name).stat().st_mtime_ns for name in done()}
    run.kill()
    run.wait()
    assert gone(worker), "the worker outlived its parent"
    (root / "go").touch()
    again = start("--workers=0")
    _, told = again.communicate(timeout=60)
    assert again.returncode == 0, told
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    assert not list(out.glob(".*tmp"))
    assert stored_folder.read_manifest(out)["records"] == 10
