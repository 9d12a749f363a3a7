"""Weights & Biases as a second writer: what it gets, that a resumed run goes on in its record, and what its absence says."""

import io
import sys
import types

import numpy as np
import pytest

from sgt_jax.errors import ConfigError
from sgt_jax.training.log import RunLog
from sgt_jax.training.wandb_log import VARIABLE


@pytest.fixture
def stub(monkeypatch):
    """A package wandb that keeps what it is told."""
    said = []

    class Run:
        def log(self, values, step):
            said.append((step, values))

        def finish(self):
            said.append("finished")

    def init(**options):
        said.append(options)
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init, Image=lambda picture: picture.shape))
    monkeypatch.setenv(VARIABLE, "sgt")
    return said


def test_numbers_and_pictures_go_there_and_a_resumed_run_keeps_its_record(stub, tmp_path):
    for first in (0, 3):
        with RunLog(tmp_path / "mine", 40, stream=io.StringIO(), first_step=first) as log:
            log.scalars(first + 1, {"loss": 2.0, "ce": float("nan")})
            log.pictures(first + 1, "masks", [[np.zeros((4, 4, 3), np.uint8)]])
    begun = [one for one in stub if isinstance(one, dict)]
    assert [one["project"] for one in begun] == ["sgt", "sgt"] and begun[0]["id"] == begun[1]["id"]
    assert begun[0]["name"] == "mine" and begun[0]["resume"] == "allow"
    assert stub[1] == (1, {"train/loss": 2.0}) and stub[2][1]["masks"][2] == 3
    assert stub.count("finished") == 2


def test_without_the_package_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv(VARIABLE, "sgt")
    with pytest.raises(ConfigError, match=r"pip install 'sgt_jax\[wandb\]'"):
        RunLog(tmp_path, 40, stream=io.StringIO())


def test_nothing_is_imported_unless_asked_for(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delenv(VARIABLE, raising=False)
    with RunLog(tmp_path, 40, stream=io.StringIO()) as log:
        log.scalars(1, {"loss": 1.0})
