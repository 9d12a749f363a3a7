"""A work directory that is used again: another config is refused by name, totals add up, leftovers mislead nobody."""

import json

import pytest
from etils import epath

from sgt_jax.errors import ConfigError
from sgt_jax.reporting.metrics import realised_samples
from sgt_jax.training import loop, resuming
from tests.support import tiny_experiment as tiny


def changed(**fields):
    """The tiny config of six steps with some fields, named by their path."""
    config = tiny.lacking(total_steps=6)  # the program of test_loop.py: a warm cache has it
    config.checkpoint.every = 3
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of six steps, with the sums that it wrote."""
    workdir = tmp_path_factory.mktemp("finished")
    loop.train(changed(), workdir)
    return workdir, json.loads((workdir / "run.json").read_text())


@pytest.mark.parametrize("field, value, words", [
    ("seed", 7, "seed: 0 -> 7"),
    ("data.seed", 7, "data.seed: 0 -> 7"),
    ("total_steps", 9, "total_steps: 6 -> 9"),
    ("data.rows", 2, "data.rows: 4 -> 2"),
    ("data.mixture.proxy.proxy", "edges", 'data.mixture.proxy.proxy: "segmentation" -> "edges"'),
    ("data.mixture.proxy.weight", 3.0, "data.mixture.proxy.weight: 1.0 -> 3.0"),
    ("optimizer.learning_rate", 0.01, "optimizer.learning_rate: 0.001 -> 0.01"),
    ("model.llm.intermediate_size", 64, "model.llm.intermediate_size: 48 -> 64"),
    ("freeze", ("^vae/",), "freeze: "),
])  # fmt: skip
def test_another_config_is_refused_with_the_old_and_the_new_value(finished, field, value, words):
    workdir, _ = finished
    before = (workdir / "config.json").read_text()
    with pytest.raises(ConfigError, match='config.resume="changed"') as error:
        loop.train(changed(**{field: value}), workdir)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert (workdir / "config.json").read_text() == before and not (workdir / "changes.jsonl").exists()


def test_what_changes_no_number_may_change_and_a_finished_run_keeps_its_totals(finished):
    workdir, summary = finished
    fields = {
        "log_every": 2,
        "checkpoint.keep": 3,
        "data.prefetch": 1,
        "evaluate_every": 5,
        "mesh.fsdp": 1,
        "name": "other",
    }
    assert int(loop.train(changed(**fields), workdir).step) == 6
    assert json.loads((workdir / "run.json").read_text()) == summary
    (line,) = map(json.loads, (workdir / "changes.jsonl").read_text().splitlines())
    assert line["step"] == 6 and line["changes"]["log_every"] == [1, 2]
    assert json.loads((workdir / "config.json").read_text())["log_every"] == 2


@pytest.mark.slow  # two configs are two programs to compile
def test_a_changed_run_goes_on_is_recorded_and_adds_up(tmp_path, capsys):
    loop.train(changed(total_steps=3), tmp_path)
    first = json.loads((tmp_path / "run.json").read_text())
    config = changed(**{"total_steps": 6, "seed": 7, "resume": "changed"})
    assert int(loop.train(config, tmp_path).step) == 6
    assert "changed since the run began" in capsys.readouterr().out
    line = json.loads((tmp_path / "changes.jsonl").read_text())
    assert line["changes"]["total_steps"] == [3, 6] and line["changes"]["seed"] == [0, 7] and line["step"] == 3
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 7
    both = json.loads((tmp_path / "run.json").read_text())
    assert both["samples"] == realised_samples(tmp_path) and both["resumed_at"] == 3
    assert sum(both["samples"].values()) > sum(first["samples"].values())
    assert both["seconds"] > first["seconds"] and both["parts"]["training"] > first["parts"]["training"]


def test_leftovers_of_a_run_without_checkpoints_are_put_aside(tmp_path):
    for name in ("metrics.jsonl", "run.json", "config.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / "0000006_loss.json").write_text("{}")
    (tmp_path / "mine.txt").write_text("mine")
    said = resuming.clean(epath.Path(tmp_path), 0)
    assert "metrics.jsonl" in said and "leftovers_1" in said
    assert {p.name for p in tmp_path.iterdir()} == {"mine.txt", "leftovers_1"}
    assert (tmp_path / "leftovers_1" / "evaluations" / "0000006_loss.json").exists()
    assert resuming.clean(epath.Path(tmp_path), 0) == ""


def test_evaluations_of_steps_that_were_lost_are_removed(tmp_path):
    for folder, prefix in (("evaluations", ""), ("pictures", "step_")):
        (tmp_path / folder).mkdir()
        for step in (3, 6):
            (tmp_path / folder / f"{prefix}{step:07d}_x.json").write_text("{}")
    resuming.clean(epath.Path(tmp_path), 3)
    assert sorted(p.name for p in tmp_path.glob("*/*")) == ["0000003_x.json", "step_0000003_x.json"]


def test_fields_that_configs_got_later_are_no_difference_while_they_are_neutral():
    old = {"seed": 0, "mesh": {"data": -1}}
    assert not resuming.differences(old, old | {"family": "bagel", "resume": "", "mesh": {"data": -1, "fsdp": 1}})
    assert resuming.differences(old, old | {"family": "other"}) == {"family": ("absent", "other")}
    assert resuming.may_change("mesh.fsdp") and not resuming.may_change("meshes")
