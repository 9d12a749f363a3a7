"""The training loop: exact resume after SIGKILL, one compilation, the non-finite policy, clear errors."""

import contextlib
import io
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.checkpoints.runs import CheckpointError, RunCheckpoints, restore_params
from sgt_jax.errors import DataError
from sgt_jax.parallel.stopping import Interrupted, StopRequest
from sgt_jax.reporting.metrics import read_metrics
from sgt_jax.training import experiment, loop, optimizer, start
from sgt_jax.training import state as state_lib
from sgt_jax.training import step as training_step
from tests.support import tiny_experiment as tiny
from tests.support.paths import REPOSITORY


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The work directory of twenty steps without interruption, and the final state."""
    workdir = tmp_path_factory.mktemp("straight")
    return workdir, jax.device_get(loop.train(tiny.lacking(), workdir))


def test_a_finished_run_started_again_changes_nothing(straight, capsys):
    workdir, state = straight
    again = loop.train(tiny.lacking(), workdir)
    assert "resuming at step 20" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), state)


def test_a_run_stopped_while_its_last_scores_are_made_is_not_finished(straight, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(straight[0], workdir)
    shutil.rmtree(workdir / "checkpoints" / "20")
    (workdir / "run.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "interrupting", lambda self: (_ for _ in ()).throw(Interrupted()))
        ended = loop.run(tiny.lacking(), workdir)
    assert not ended.finished and int(ended.state.step) == 20 and not (workdir / "run.json").exists()
    again = loop.run(tiny.lacking(), workdir)
    assert again.finished and (workdir / "run.json").exists()
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again.state), straight[1])


def test_weights_of_a_run_can_be_read_without_its_config(straight):
    workdir, state = straight
    params, step = restore_params(workdir, "params")
    assert step == 20
    np.testing.assert_array_equal(params["llm2vae"]["kernel"], state.params["llm2vae"]["kernel"])
    ema, _ = restore_params(workdir, "ema")
    np.testing.assert_array_equal(ema["llm2vae"]["kernel"], state.ema["llm2vae"]["kernel"])
    np.testing.assert_array_equal(
        ema["vae"]["encoder"]["conv_in"]["kernel"], params["vae"]["encoder"]["conv_in"]["kernel"]
    )
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        restore_params(workdir / "nowhere")


def test_a_checkpoint_of_another_model_is_refused_with_its_folder(straight):
    config = tiny.lacking()
    config.model.llm.intermediate_size = 64
    with pytest.raises((CheckpointError, ValueError), match="another config: model.llm.intermediate_size: 48 -> 64"):
        loop.train(config, str(straight[0]))


@pytest.mark.parametrize("family", [
    "bagel",
    pytest.param("omnigen2", marks=pytest.mark.slow),  # a second program to compile; the default tier keeps to one
])  # fmt: skip
def test_one_compilation_with_packs_that_lack_text_labels_pictures_or_latents(family, request, tmp_path):
    """The step is compiled ahead and would refuse other shapes."""
    if family == "bagel":
        tmp_path, _ = request.getfixturevalue("straight")
    else:
        loop.train(tiny.lacking(family, total_steps=6), tmp_path)
    lines = read_metrics(tmp_path, kind="train")
    assert len(lines) >= 6 and all(np.isfinite(line["loss"]) for line in lines)
    for lane in set(tiny.LACKING[family]) - {"und", "pixels:32x32"}:
        assert min(line[f"fill/{lane}"] for line in lines) == 0, f"every pack had something in lane {lane}"


@pytest.mark.slow  # 15 s
def test_a_batch_without_any_labels_latents_or_pictures_is_finite():
    task = experiment.build(tiny.config())
    batch, _ = next(iter(task.batches()))
    params = task.init(jax.random.key(0))
    step = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    for lane in ("labels", "gen", "vit"):
        hollow = {k: dict(v) for k, v in batch.items()}
        hollow[lane] = {k: np.zeros_like(v) for k, v in batch[lane].items()}
        if lane == "vit":
            hollow["und"]["vit"] = np.full_like(batch["und"]["vit"], -1)
        (loss, _), gradients = step(params, hollow, jax.random.key(1))
        assert np.isfinite(loss)
        assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(gradients)), lane


class _Poison:
    """Wraps a task so that chosen steps give a loss that is not finite."""

    def __init__(self, task, bad):
        self._task, self._bad = task, bad

    def __getattr__(self, name):
        return getattr(self._task, name)

    def loss(self, params, batch, key):
        loss, metrics = self._task.loss(params, batch, key)
        worst = jax.random.key_data(key)[-1] * 0  # tie to the inputs, so that nothing is folded away
        row = metrics["row_loss"].at[1].set(jnp.nan)
        bad = self._bad
        return jnp.where(bad, jnp.nan, loss) + worst, dict(metrics, row_loss=jnp.where(bad, row, metrics["row_loss"]))


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory):
    """A run whose every update is poisoned, until it ends: (its error, what it printed, [(state, next, metrics)])."""
    build, call, steps, printed = experiment.build, training_step.Step.__call__, [], io.StringIO()

    def recorded(self, state, batch):
        before = jax.device_get(state)  # it is donated
        after, metrics = call(self, state, batch)
        steps.append((before, *jax.device_get((after, metrics))))
        return after, metrics

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(start.experiment, "build", lambda config: _Poison(build(config), True))
        patch.setattr(training_step.Step, "__call__", recorded)
        with pytest.raises(training_step.NonFiniteError) as error:
            loop.train(tiny.config(max_nonfinite=3), tmp_path_factory.mktemp("poisoned"))
    return error, printed.getvalue(), steps


def test_updates_that_are_not_finite_are_skipped_counted_named_and_stop_the_run(poisoned):
    error, printed, _ = poisoned
    assert error.match(r"3 updates in a row.*step 3.*(proxy|understanding|text_to_image):scenes")
    assert "update skipped; examples: " in printed


def test_a_skipped_update_leaves_everything_but_the_step_as_it_was(poisoned):
    _, _, steps = poisoned
    assert len(steps) >= 3
    for number, (state, after, metrics) in enumerate(steps, 1):
        assert bool(metrics["nonfinite"]) and int(after.skipped) == int(after.step) == number
        for name in ("params", "ema", "opt_state"):
            jax.tree.map(np.testing.assert_array_equal, getattr(state, name), getattr(after, name))


def test_wrong_settings_are_one_line_that_names_the_field(tmp_path):
    for change, error, words in (
        (("data.rows", 3), ValueError, r"config.data.rows=3 .* use a multiple of"),
        (("data.budgets.gen", 8), DataError, r"lane 'gen'.*budget is 8"),
        (("freeze", ("no_such",)), ValueError, "no_such"),
        (("evaluators", {"x": {"type": "nonsense"}}), ValueError, "unknown type 'nonsense'"),
        (("data.mixture.proxy.source", "nowhere"), DataError, "no source 'nowhere'"),
        (("data.mixture.proxy.proxy", "nonsense"), ValueError, "nonsense"),
        (("mesh", {"banana": 2}), ValueError, "banana"),
    ):
        config = tiny.config()
        config.unlock()
        path, value = change
        node = config
        *parents, leaf = path.split(".")
        for part in parents:
            node = node[part]
        node[leaf] = value
        with pytest.raises(error, match=words):
            loop.train(config, str(tmp_path / leaf))


@pytest.mark.parametrize("override, words", [
    ("--config.totl_steps=4", "no field 'totl_steps'; did you mean 'total_steps'?"),
    ("--config.data.mixture.proxy.proxi=edges", "no field 'proxi'; did you mean 'proxy'?"),
])  # fmt: skip
def test_a_misspelt_override_is_one_line_that_suggests_the_right_name(tmp_path, override, words):
    child = subprocess.run(
        [sys.executable, "-m", "sgt_jax.main", "--config=configs/nano.py", f"--workdir={tmp_path}", override],
        capture_output=True, text=True, timeout=120, cwd=REPOSITORY,
    )  # fmt: skip
    assert child.returncode == 1 and words in child.stderr and "Traceback" not in child.stderr


def test_checkpoints_keep_the_last_few_and_ignore_foreign_folders(tmp_path):
    checkpoints = RunCheckpoints(tmp_path, keep=2, asynchronous=False)
    config = tiny.config()
    tx = optimizer.make_optimizer(config)
    params = {"vae": {"a": jnp.ones(3)}, "pos_embed": jnp.ones(2), "b": jnp.zeros(2)}
    state = state_lib.create(params, tx, tuple(config.freeze), True)
    for step in (1, 2, 3):
        checkpoints.save(step, state._asdict(), {"0": {"position": step, "pool": []}})
    (tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp-1").mkdir()
    assert checkpoints.latest() == 3
    restored, data = checkpoints.restore(jax.eval_shape(lambda: state)._asdict())
    assert data == {"0": {"position": 3, "pool": []}}
    jax.tree.map(np.testing.assert_array_equal, restored, state._asdict())
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == ["2", "3"]
