"""A work directory belongs to one run: a live one is respected, a dead one is not waited for, a silent one for a while."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sgt_jax.errors import UserError
from sgt_jax.training import lock
from sgt_jax.training.lock import Lock, LockedError, locked


def held(workdir, **facts):
    """Writes the lock of another process."""
    me = Lock(workdir)._me
    (workdir / lock.FILE).write_text(json.dumps(me | {"heartbeat": time.time(), "since": "noon", "token": "x"} | facts))


@pytest.fixture
def other_process():
    """A live process of this host."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield child
    child.communicate()


def test_a_lock_of_a_live_process_here_is_refused_at_once_and_can_be_stolen(tmp_path, other_process):
    held(tmp_path, pid=other_process.pid, started=lock._started(other_process.pid))
    began = time.monotonic()
    with pytest.raises(LockedError, match=f"process {other_process.pid} .*--steal-lock") as error:
        Lock(tmp_path).acquire()
    assert "\n" not in str(error.value) and time.monotonic() - began < 1
    with locked(tmp_path, steal=True):
        assert json.loads((tmp_path / lock.FILE).read_text())["pid"] == os.getpid()
    assert not (tmp_path / lock.FILE).exists()


@pytest.mark.parametrize("facts", [
    dict(pid=2**22 + 5, started="1"),  # no such process
    dict(pid=1, started="not that of process 1"),  # the number is another process's now
    dict(host="elsewhere", heartbeat=time.time() - 3600),
])  # fmt: skip
def test_a_stale_lock_is_taken(tmp_path, facts):
    held(tmp_path, **facts)
    with locked(tmp_path):
        assert json.loads((tmp_path / lock.FILE).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_requeue_waits_for_a_silent_lock_of_another_host(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "STALE", 1.0)
    monkeypatch.setattr(lock, "BEAT", 0.2)
    held(tmp_path, host="elsewhere", heartbeat=time.time() + 60)  # its clock is ahead
    said, began = [], time.monotonic()
    Lock(tmp_path).acquire(say=said.append)
    assert time.monotonic() - began >= 1.0 and "waiting" in said[0] and "elsewhere" in said[0]


def test_a_lock_of_another_host_whose_heart_beats_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.2)
    held(tmp_path, host="elsewhere")
    timer = threading.Timer(0.3, held, [tmp_path], dict(host="elsewhere", heartbeat=time.time() + 1))
    timer.start()
    with pytest.raises(LockedError, match="on elsewhere works in this directory"):
        Lock(tmp_path).acquire(say=lambda line: None)


def test_of_many_at_once_one_gets_it(tmp_path):
    held(tmp_path, pid=2**22 + 5, started="1")
    code = """
import sys
from sgt_jax.training.lock import Lock
try:
    Lock(sys.argv[1]).acquire()
    print("mine", flush=True)
except Exception as error:
    print(type(error).__name__, flush=True)
input()
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    said = [child.stdout.readline().strip() for child in children]
    for child in children:
        child.communicate("\n")
    assert sorted(said) == ["LockedError"] * 3 + ["mine"]


def test_a_run_whose_lock_was_stolen_ends_and_leaves_the_new_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    mine = Lock(tmp_path)
    mine.acquire()
    mine.check()
    (tmp_path / lock.FILE).unlink()
    held(tmp_path, host="elsewhere")
    deadline = time.monotonic() + 5
    while not mine._lost and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(LockedError, match="elsewhere has taken"):
        mine.check()
    mine.release()
    assert json.loads((tmp_path / lock.FILE).read_text())["host"] == "elsewhere"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="run.lock: cannot be written"):
        Lock(tmp_path / "file").acquire()


def test_on_an_object_store_it_is_created_only_where_it_is_absent(monkeypatch):
    """A file system in memory stands in for gs://; no bucket was at hand."""

    class Store(MemoryFileSystem):
        protocol = "gs"
        store, pseudo_dirs = {}, [""]

        @classmethod
        def _strip_protocol(cls, path):
            return MemoryFileSystem._strip_protocol(str(path).removeprefix("gs://"))

    for name in ("gs", "gcs"):
        monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, name, Store)
    with locked("gs://bucket/run"):
        text = Store().cat_file("gs://bucket/run/run.lock")
        assert json.loads(text)["pid"] == os.getpid()
        with pytest.raises(FileExistsError):
            Store().pipe_file("gs://bucket/run/run.lock", b"", mode="create")
        other = json.loads(text) | {"host": "elsewhere", "token": "x"}
        Store().pipe_file("gs://bucket/run/run.lock", json.dumps(other).encode())
        monkeypatch.setattr(lock, "BEAT", 0.1)
        monkeypatch.setattr(lock, "STALE", 0.3)
        Lock("gs://bucket/run").acquire(say=lambda line: None)  # nobody renews it: stale
