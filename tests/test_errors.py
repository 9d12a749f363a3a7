"""A user's error is one line, a fault of ours keeps its traceback: in training, in commands, in studies."""

import pytest
from ml_collections import ConfigDict

from sgt_jax import errors, main
from sgt_jax.errors import CheckpointError, ConfigError, DataError, PlanError, StartError, UserError
from sgt_jax.training.step import NonFiniteError

CPU = ConfigDict(dict(platform="cpu", total_steps=1))


@pytest.fixture
def failing(monkeypatch):
    """Makes training raise an error; runs `main.run`."""
    monkeypatch.delenv("SGT_TRACEBACK", raising=False)

    def run(error):
        def train(config, workdir, steal_lock):
            raise error

        monkeypatch.setattr("sgt_jax.training.loop.run", train)
        return main.run(CPU, "nowhere", coordinator=None, processes=None, process=None, timeout=1, heartbeat=1)

    return run


def test_every_error_of_the_users_has_one_root():
    for kind in (ConfigError, DataError, CheckpointError, PlanError, StartError, NonFiniteError):
        assert issubclass(kind, UserError)


@pytest.mark.parametrize(
    "error", [DataError("photo.jpg: is cut off"), CheckpointError("a", "is gone."), ConfigError("x")]
)
def test_training_shows_a_users_error_as_one_line(failing, error):
    with pytest.raises(SystemExit, match=str(error).split()[0]):
        failing(error)


@pytest.mark.parametrize("error", [ValueError("shapes differ"), TypeError("no such argument"), KeyError("und")])
def test_training_keeps_the_traceback_of_a_fault_of_ours(failing, error):
    with pytest.raises(type(error)):
        failing(error)


def test_commands_show_a_users_error_as_one_line_and_no_other(capsys, monkeypatch):
    monkeypatch.delenv("SGT_TRACEBACK", raising=False)

    def fail(error):
        def work():
            raise error

        return work

    assert errors.status(fail(DataError("a\n b"))) == 1
    assert capsys.readouterr().err == "error: a b\n"
    assert errors.status(fail(OSError("gone")), also=(OSError,)) == 1
    with pytest.raises(ValueError, match="shapes"):
        errors.status(fail(ValueError("shapes differ")))
    assert errors.status(lambda: None) == 0 and errors.status(lambda: 3) == 3


def test_a_command_whose_output_nobody_takes_ends_without_a_word(monkeypatch, capfd):
    closed = []

    def gone():
        raise BrokenPipeError

    monkeypatch.setattr(errors.os, "dup2", lambda *to: closed.append(to))
    for run in (errors.status, errors.guarded):
        assert run(gone) == 1
    assert len(closed) == 2 and capfd.readouterr() == ("", "")
