"""An arm that starts from another arm's last weights: those and no others, and not before they are there."""

import pytest
from etils import epath
from ml_collections import ConfigDict

from sgt_jax.errors import DataError
from sgt_jax.study import arms, records, stages
from sgt_jax.study.run import run_study
from sgt_jax.training import loop
from tests.support import tiny_experiment as tiny


def study():
    """Two arms of two steps, the second of which starts from the first."""
    c = ConfigDict(dict(name="tiny", seeds=(5,), references=("first",), favourite="then"))
    c.base = tiny.config(total_steps=2, evaluate_at_start=False)
    c.base.checkpoint.every = 2
    c.base.data.mixture.proxy.options = ConfigDict(dict(style="plain"))
    told = dict(type="answers", source="held_out", n=8, train_source="train", train_n=8, max_new_tokens=2, batch=8)
    c.base.evaluators = ConfigDict(dict(answers=told))
    c.arms = ConfigDict(dict(first={}, then=dict(after="first", total_steps=1)))
    c.scores = ConfigDict(dict(vision=dict(title="answers", evaluator="answers", item="accuracy", by="kind", of=())))
    c.headline, c.understanding, c.columns, c.splits = "vision", ("vision",), ("vision",), ConfigDict(dict(answers="kind"))
    return c


@pytest.mark.slow  # two trainings and their scores, compiled once each
def test_it_starts_from_the_averaged_weights_of_the_first_arm(tmp_path, monkeypatch):
    c, work, results = study(), epath.Path(tmp_path) / "work", epath.Path(tmp_path) / "results"
    began = []
    run = loop.run
    monkeypatch.setattr(loop, "run", lambda config, *more: began.append(config.init_from) or run(config, *more))
    assert run_study(c, work, results)
    weights = work / "arms" / "first_5" / stages.WEIGHTS
    assert began == ["", str(weights)] and (weights / "ema.safetensors").exists()
    assert {r["arm"] for r in records.finished(results)} == {"first", "then"}
    assert run_study(c, work, results) and len(began) == 2  # both are done
    (results / records.RUNS / "then_5.json").unlink()
    weights.rename(weights.with_name("gone"))
    with pytest.raises(DataError, match="is gone, and arm then starts there; remove .*first_5.json"):
        run_study(c, work, results)


def test_what_the_first_arm_is_is_part_of_the_second_ones_settings():
    c = study()
    one = arms.fingerprint(arms.run_config(c, arms.Run("then", 5)))
    c.arms.first = ConfigDict(dict(total_steps=1))
    assert arms.fingerprint(arms.run_config(c, arms.Run("then", 5))) != one
    assert [run.arm for run in arms.runs(c)] == ["first", "then"]


def test_it_waits_as_long_as_there_are_no_weights(tmp_path):
    folder = epath.Path(tmp_path)
    assert stages.waits(study(), arms.Run("then", 5), folder, folder / "results")
    assert not stages.waits(study(), arms.Run("first", 5), folder, folder / "results")
