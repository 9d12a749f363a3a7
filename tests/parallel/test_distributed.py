"""Several processes as one run: settings and facts in one process; stopping, losing and resuming with four real ones."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import jax
import pytest

from sgt_jax import main
from sgt_jax.parallel import distributed
from sgt_jax.reporting.metrics import read_metrics
from sgt_jax.training import experiment
from tests.support import run_many, tiny_many
from tests.support.paths import REPOSITORY, helper

GRACE = 60  # seconds: for saving and leaving, on a machine with fewer cores than processes


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def train(workdir, processes, devices, signal="none", step=0, who=-1):
    """Runs `run_many` in real processes; [(exit status, output, errors, seconds after the first that ended)]."""
    coordinator = f"localhost:{free_port()}" if processes > 1 else ""
    started = [
        subprocess.Popen(
            helper("run_many", workdir, devices, coordinator, processes, i, signal if i == who else "none", step),
            cwd=REPOSITORY,
            stdout=open(workdir / f"out.{i}", "w"), stderr=open(workdir / f"err.{i}", "w"),
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        for i in range(processes)
    ]  # fmt: skip
    ended = {}
    try:
        deadline = time.monotonic() + 900
        while len(ended) < processes and time.monotonic() < deadline:
            for i, process in enumerate(started):
                if i not in ended and process.poll() is not None:
                    ended[i] = time.monotonic()
            time.sleep(0.1)
    finally:
        for process in started:
            process.kill()
    first = min(ended.values(), default=0)
    return [
        (p.wait(), (workdir / f"out.{i}").read_text(), (workdir / f"err.{i}").read_text(), ended[i] - first)
        for i, p in enumerate(started)
    ]


def losses(workdir):
    return {line["step"]: line["loss"] for line in read_metrics(workdir, kind="train")}


def saved(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def seen(workdir):
    """{step: (row digests of all processes together, {digests of the draws})}; every process must have drawn the same."""
    found = {}
    for file in workdir.glob("seen.*.jsonl"):
        for line in map(json.loads, file.read_text().splitlines()):
            rows, draws = found.setdefault(line["step"], ({}, set()))
            for row, digest in line["rows"].items():
                assert rows.setdefault(row, digest) == digest, (file.name, line["step"], row)
            draws.add(line["draws"])
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Work directories and outputs of one run that is stopped, resized, killed and finished, and of one left alone."""
    root = tmp_path_factory.mktemp("story")
    alone, told = root / "alone", root / "told"
    alone.mkdir(), told.mkdir()
    found = {"alone": train(alone, 1, 8)}
    found["stopped"] = train(told, 4, 2, "TERM", 5, who=2)
    found["saved by four"] = saved(told)
    found["on two devices"] = train(told, 1, 2, "TERM", 8, who=0)
    found["saved by one"] = saved(told)
    found["killed"] = train(told, 4, 2, "KILL", 10, who=2)
    found["losses before the kill"] = losses(told)
    found["finished"] = train(told, 4, 2)
    yield found, alone, told
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.slow
def test_sigterm_to_one_of_four_saves_once_and_all_leave_in_time(story):
    found, _, _ = story
    for status, _, errors, seconds in found["stopped"]:
        assert status == 75, errors[-3000:]
        assert seconds < GRACE
    last = found["saved by four"][-1]
    assert last in (5, 6, 7)  # the next step that all can reach
    out = found["stopped"][0][1]
    assert f"stopped by signal at step {last}; the same command resumes" in out
    assert not any("stopped by signal" in o for _, o, _, _ in found["stopped"][1:])  # one writer


@pytest.mark.slow
def test_one_process_continues_what_four_saved_and_the_reverse(story):
    found, _, _ = story
    ((status, out, errors, _),) = found["on two devices"]
    assert status == 75, errors[-3000:]
    assert f"resuming at step {found['saved by four'][-1]} of 12" in out and found["saved by one"][-1] == 8
    assert "resuming at step 8 of 12" in found["killed"][0][1]


@pytest.mark.slow
def test_sigkill_of_one_ends_the_others_with_an_error_in_bounded_time(story):
    found, _, _ = story
    assert found["killed"][2][0] == -9
    for i, (status, _, errors, seconds) in enumerate(found["killed"]):
        if i != 2:
            assert status not in (0, 75) and seconds < GRACE
            # Told by Python, or by the runtime's own thread that watches the others.
            assert "because another process ended; its own log says why" in errors or (
                "another task died" in errors and "Terminating process" in errors
            ), errors[-3000:]


@pytest.mark.slow
def test_the_rerun_continues_exactly(story):
    found, _, told = story
    for status, _, errors, _ in found["finished"]:
        assert status == 0, errors[-3000:]
    assert "resuming at step 8 of 12" in found["finished"][0][1]
    before, after = found["losses before the kill"], losses(told)
    assert sorted(after) == list(range(1, 13)) and 9 in before
    for step in before:
        assert before[step] == after[step]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bagel"])
def test_batches_draws_and_losses_do_not_depend_on_processes_and_devices(story, family):
    """8 -> 2 -> 8 devices against 8 devices in one process, and against the data pipeline by itself."""
    found, alone, told = story
    assert found["alone"][0][0] == 0, found["alone"][0][2][-3000:]
    one, many = seen(alone), seen(told)
    assert sorted(one) == sorted(many) == list(range(12))
    for step in one:
        assert len(one[step][0]) == 8 and one[step] == many[step], step
        assert len(one[step][1]) == 1
    task = experiment.build(tiny_many.get_config(family))
    for step, (batch, _) in zip(range(12), iter(task.batches())):
        assert run_many.row_digests(batch, range(8)) == one[step][0]
    a, b = losses(alone), losses(told)
    for step in a:
        assert abs(a[step] - b[step]) <= 1e-6 * a[step], (step, a[step], b[step])


@pytest.mark.slow  # two devices and eight are a program each, and eight are a process of their own
@pytest.mark.parametrize("family", ["omnigen2"])  # the story above is BAGEL's, by several processes
def test_a_run_goes_from_eight_devices_to_two_and_back(family, tmp_path):
    child = subprocess.run(
        helper("run_resized", family, tmp_path), cwd=REPOSITORY, capture_output=True, text=True, timeout=600
    )
    assert child.returncode == 0, child.stderr[-3000:]
    found = json.loads(child.stdout.splitlines()[-1])
    assert found["stopped"] == [6, 2, 4, 6] and len(found["alone"]) == len(found["told"]) == 6
    for step, loss in found["alone"].items():
        assert abs(loss - found["told"][step]) <= 1e-6 * loss, (step, loss, found["told"][step])


# -- Alone -------------------------------------------------------------------------------------------------------------


def test_settings_come_from_flags_then_from_the_environment(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.Settings.from_environment() == distributed.Settings()
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "a:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    assert distributed.Settings.from_environment(process=2, timeout=7)[:4] == ("a:1", 4, 2, 7)
    monkeypatch.setenv("JAX_PROCESS_ID", "three")
    with pytest.raises(ValueError, match="JAX_PROCESS_ID='three' must be a number"):
        distributed.Settings.from_environment()


@pytest.mark.parametrize("settings, words", [
    (dict(processes=2), "need --coordinator=HOST:PORT"),
    (dict(coordinator="here"), "--coordinator='here' must be HOST:PORT"),
    (dict(coordinator="here:1"), "needs --processes=N and --process"),
    (dict(coordinator="here:1", processes=2, process=2), "--process=2 must be below --processes=2"),
])  # fmt: skip
def test_incomplete_settings_are_one_line(settings, words):
    with pytest.raises(ValueError) as caught:
        distributed.start(distributed.Settings(**settings))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_coordinator_that_is_not_there_is_waited_for_and_named():
    settings = distributed.Settings(f"localhost:{free_port()}", 2, 1, timeout=1)
    with pytest.raises(TimeoutError, match=r"1 of 2: no coordinator at localhost:\d+ after 1 s .*is process 0 running"):
        distributed.start(settings)


def test_alone_nothing_is_started_and_facts_are_ones_own(monkeypatch):
    distributed.start(distributed.Settings(), automatic=False)
    assert jax.process_count() == 1
    facts = {"0": {"n": 1}}
    assert distributed.gather(facts) is facts
    assert distributed.fetch({"a": jax.numpy.arange(3)})["a"].tolist() == [0, 1, 2]
    assert distributed.explain(RuntimeError("gloo")) == ""
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    assert "process 0 of 4" in distributed.explain(RuntimeError("gloo: connection closed"))
    assert distributed.explain(RuntimeError("RESOURCE_EXHAUSTED: out of memory")) == ""


def test_when_not_all_come_the_others_end_with_one_line():
    """Process 0 waits for a second one that never starts."""
    code = (
        "from sgt_jax.parallel import distributed as d; import jax; jax.config.update('jax_platforms', 'cpu')\n"
        f"d.start(d.Settings('localhost:{free_port()}', 2, 0, timeout=2))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1].startswith("error: process 0 of 2: not all processes had started 2 s")


def test_flags_of_the_command_and_settings_have_the_same_names():
    assert set(main.PROCESSES) == set(distributed.Settings._fields)
