"""A benchmark inside a run, and a process that follows a run and scores its checkpoints."""

import json

import jax
import numpy as np
import pytest

from sgt_jax.checkpoints import runs as checkpoints
from sgt_jax.commands import evaluate, evaluate_follow
from sgt_jax.errors import ConfigError
from sgt_jax.evaluation import evaluators
from sgt_jax.inference.subject import CheckpointSubject
from sgt_jax.reporting.metrics import read_metrics
from sgt_jax.training import late_scores
from tests.support import benchmark_folders as folders


@pytest.fixture(scope="module")
def model():
    return evaluate.Model(evaluate.parser().parse_args(["--checkpoint", "package:nano"]))


@pytest.fixture(scope="module")
def assistant(model):
    return model.assistant


def test_an_evaluator_scores_the_first_items_and_says_so(tmp_path, assistant):
    folder = folders.toolkit_tables(tmp_path, "mmvp")
    options = dict(name="mmvp", folder=str(folder), limit=8, prompt="toolkit", max_new_tokens=2, batch=4)
    made = evaluators.by_name("benchmark")(CheckpointSubject(assistant, {}, ()), options)
    items = made(assistant.params).items
    assert len(items["hit"]) == 8 and items["cluster"] == [str(i // 2) for i in range(8)]
    assert made(assistant.params).items == items
    first = {**items, "hit": [0.0] * 8}
    (score, *_) = made.scores({**items, "hit": [1.0, 1.0] + [0.0] * 6}, first)
    assert score.name == "MMVP, 8 of 300 items" and score.after.value == 0.25 and score.over_before.value == 0.25
    with pytest.raises(ConfigError, match="choose one of cv_bench"):
        evaluators.by_name("benchmark")(CheckpointSubject(assistant, {}, ()), options | {"name": "geneval"})


@pytest.fixture
def workdir(tmp_path, model, monkeypatch):
    """A run of three checkpoints, the first of which it has removed again when it is read."""
    path = tmp_path / "run"
    for step in (10, 20, 30):
        (path / "checkpoints" / str(step)).mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"total_steps": 30}))
    (path / "metrics.jsonl").write_text('{"step": 30, "kind": "train", "seconds": 4.5, "loss": 1.0}\n')

    shipped = model.params

    def restore(workdir, weights, step):
        if step == 10:
            raise FileNotFoundError("gone")
        return jax.tree.map(lambda x: np.asarray(x) * (step / 30), shipped), step

    monkeypatch.setattr(checkpoints, "restore_params", restore)
    monkeypatch.setattr(evaluate, "Model", lambda options: model)
    return path


def test_a_run_is_followed_to_its_last_step(tmp_path, workdir, capsys):
    folders.toolkit_tables(tmp_path / "data", "mmvp")
    arguments = ["mmvp", "--follow", str(workdir), "--data", str(tmp_path / "data"), "--limit", "8", "--batch", "4",
                 "--max-new-tokens", "2", "--poll", "0"]  # fmt: skip
    assert evaluate.main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["step 20: scored mmvp", "step 30: scored mmvp"]
    assert "step 10: the run removed this checkpoint" in printed.err
    lines = read_metrics(workdir, kind=late_scores.KIND)
    assert [line["step"] for line in lines] == [20, 30] and lines[0]["seconds"] == 4.5
    assert any(name.startswith("mmvp/Average") and name.endswith("[8 of 300 items]") for name in lines[0])
    assert (workdir / "benchmarks" / "0000030" / "mmvp" / "answers.jsonl").exists()
    assert evaluate.main(arguments) == 0  # again: nothing is computed or logged twice
    assert len(read_metrics(workdir, kind=late_scores.KIND)) == 2
    assert len(list((workdir / "tensorboard").glob("*.benchmarks*"))) == 2


def test_what_cannot_be_followed_is_one_line(tmp_path, capsys):
    assert evaluate.main(["geneval", "--follow", str(tmp_path)]) == 1
    assert "--follow asks questions only" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="is not the work directory of a run"):
        evaluate_follow.last_step(tmp_path)
    with pytest.raises(ConfigError, match="object store"):
        late_scores.append("gs://bucket/run", 1, {"a": 1.0})
