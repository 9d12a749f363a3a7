"""A file is the old one or the new one, whatever happens to its writer, and no half-written one is left beside it."""

import os
import signal
import subprocess
import sys

import pytest
from etils import epath

from sgt_jax.data.stored import atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path):
    path = tmp_path / "study.json"
    for text in ("old\n", "new \N{MINUS SIGN}\n"):
        atomic.write_text(path, text)
        assert path.read_bytes() == text.encode() and names(tmp_path) == ["study.json"]


def test_a_failure_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "study.json"
    atomic.write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic.replacing(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == tmp_path, "a rename from another disk is a copy"
        raise ZeroDivisionError
    monkeypatch.setattr(os, "fsync", lambda descriptor: 1 / 0)  # the disk is full only when it is flushed
    with pytest.raises(ZeroDivisionError):
        atomic.write_text(path, "half")
    assert path.read_text() == "old" and names(tmp_path) == ["study.json"]


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("old")
    code = (
        "import os, signal, sys\nfrom sgt_jax.data.stored import atomic\n"
        "with atomic.replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert [n for n in names(tmp_path) if n != path.name][0].startswith("."), (
        "a half-written file could be taken for one"
    )


def test_an_object_store_needs_no_renaming(monkeypatch):
    written = {}
    kind = type(epath.Path("gs://bucket/x"))
    monkeypatch.setattr(kind, "write_bytes", lambda self, content: written.update({os.fspath(self): content}))
    atomic.write_text("gs://bucket/run/results.json", "{}")
    assert written == {"gs://bucket/run/results.json": b"{}"}
