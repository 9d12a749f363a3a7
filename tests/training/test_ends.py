"""How runs end: signals, errors during a save, damaged checkpoints, disks without room; each with one line that says why.

Slow: most of it is real processes that get real signals, and each imports and compiles for itself.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from sgt_jax.checkpoints.runs import RunCheckpoints, restore_params
from sgt_jax.data.stored.places import place
from sgt_jax.errors import CheckpointError, ConfigError, one_line
from sgt_jax.inference.load import load
from sgt_jax.parallel.stopping import Interrupted, StopRequest
from sgt_jax.training import loop
from sgt_jax.training.publishing import publish
from tests.support import kills
from tests.support import tiny_experiment as tiny
from tests.support.paths import REPOSITORY

STATE = {"params": {"a": {"b": jnp.arange(4096.0)}}, "ema": {}, "step": jnp.int32(0)}


@pytest.fixture
def saved(tmp_path):
    """A work directory with checkpoints 3 and 6."""
    with RunCheckpoints(tmp_path, keep=2) as checkpoints:
        for step in (3, 6):
            checkpoints.save(step, STATE, {"0": {"position": step, "pool": []}})
    return tmp_path


def restore(workdir):
    return RunCheckpoints(workdir).restore(jax.eval_shape(lambda: STATE))


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("damage", ["empty", "truncate", "remove"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_offered(saved, tmp_path_factory, damage):
    seen = 0
    for name in files(saved / "checkpoints" / "6"):
        workdir = tmp_path_factory.mktemp("damaged") / "run"
        shutil.copytree(saved, workdir)
        path = workdir / "checkpoints" / "6" / name
        if damage == "remove":
            path.unlink()
        else:
            path.write_bytes(b"" if damage == "empty" else path.read_bytes()[: path.stat().st_size // 2])
        try:
            state, data = restore(workdir)
        except CheckpointError as error:
            seen += 1
            assert f"{workdir}/checkpoints/6" in str(error) and "resumes from step 3" in one_line(error)
            assert f"mv {workdir}/checkpoints/6 {workdir}/damaged_6" in str(error)
            shutil.move(workdir / "checkpoints" / "6", workdir / "damaged_6")
            assert restore(workdir)[1]["0"]["position"] == 3
        else:  # a file that is not needed to read it
            assert data["0"]["position"] == 6 and (state["params"]["a"]["b"] == STATE["params"]["a"]["b"]).all()
    assert seen >= 2
    assert restore_params(saved, "params")[1] == 6


def test_an_error_while_a_save_is_written_waits_for_it(tmp_path):
    with pytest.raises(ZeroDivisionError), RunCheckpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(3, STATE, {"0": {"position": 3, "pool": []}})
        raise ZeroDivisionError
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"3"}


def test_a_save_without_room_is_refused_before_it_begins(saved, monkeypatch):
    usage = shutil.disk_usage(saved)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with RunCheckpoints(saved) as checkpoints, pytest.raises(CheckpointError, match="0.000 GB free.*from step 6") as error:
        checkpoints.save(9, STATE, {})
    assert "\n" not in str(error.value) and not (saved / "checkpoints" / "9").exists()


def test_places_as_people_write_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place("~/run") == epath.Path(tmp_path / "run")
    assert place(f"file://{tmp_path}/run") == epath.Path(tmp_path / "run")
    for text, words in (("http://x/run", "is no folder"), ("", "empty name"), ("memory://run", "is no folder")):
        with pytest.raises(ConfigError, match=words):
            place(text)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match="gs:// needs the package gcsfs"):
        place("gs://no-such-bucket/run")
    with pytest.raises(ConfigError, match="gs:// needs the package gcsfs"):
        load("gs://no-such-bucket/run")
    with pytest.raises(ConfigError, match="gs:// needs the package gcsfs"):
        publish("gs://no-such-bucket/run", "out")


def test_a_file_in_place_of_the_work_directory_is_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match="a file is in its place") as error:
            loop.train(tiny.config(), workdir)
        assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_scoring_is_left_at_the_first_signal_and_handlers_are_given_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        stop.anything_to_lose = True
        with pytest.raises(Interrupted), stop.interrupting():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        assert stop.at(1)
        with pytest.raises(Interrupted), stop.interrupting():
            pytest.fail("nobody scores after a signal")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def begun(tmp_path, *options):
    """A process that trains without end, as soon as it has taken steps; and its log."""
    log = (tmp_path / "log").open("w")
    command = [sys.executable, "-m", "sgt_jax.main", f"--config={kills.__file__}", f"--workdir={tmp_path}/run",
               "--config.total_steps=100000", "--config.checkpoint.every=0", "--stopped_status=75", *options]  # fmt: skip
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)


def wait_for(words: str, log: Path, child):
    deadline = time.monotonic() + 240
    while words not in log.read_text():
        assert child.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_save_and_say_that_the_same_command_resumes(tmp_path, number):
    child, log = begun(tmp_path, "--config.evaluate_every=0"), tmp_path / "log"
    wait_for("step      3/", log, child)
    child.send_signal(number)
    assert child.wait(120) == 75
    last = log.read_text().strip().splitlines()[-1]
    assert last.startswith("stopped by signal at step") and last.endswith("the same command resumes")
    (step,) = [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()]
    assert f"at step {step};" in last and "Traceback" not in log.read_text()


@pytest.mark.slow
def test_a_signal_while_compiling_ends_at_once(tmp_path):
    child, log = begun(tmp_path), tmp_path / "log"
    wait_for("starting of", log, child)
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 75 and time.monotonic() - began < 10
    assert "the same command starts again" in log.read_text().splitlines()[-1]


@pytest.mark.slow
def test_a_run_that_stops_being_finite_keeps_its_saves_and_ends_with_one_line(tmp_path):
    child = begun(tmp_path, "--config.checkpoint.every=2", "--config.optimizer.learning_rate=1e30",
                  "--config.optimizer.muon_learning_rate=1e30")  # fmt: skip
    assert child.wait(240) == 1
    lines = (tmp_path / "log").read_text().strip().splitlines()
    assert lines[-1].startswith("error: ") and "were not finite" in lines[-1]
    names = [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()]
    assert names and all(name.isdigit() for name in names), names


@pytest.mark.slow
def test_of_three_kills_in_a_run_each_is_resumed_to_the_bit(tmp_path):
    campaign = kills.Campaign(tmp_path, tmp_path / "kills.json", seed=1)
    campaign.run(3)
    assert campaign.record["kills"] == 3 and campaign.record["unequal"] == []
    assert campaign.record["equal"] == campaign.record["runs"] >= 1
