"""What another study has run is not run again, and a run that was scored on the way keeps all its scores."""

import json

import pytest
from etils import epath
from ml_collections import ConfigDict
from sgt_jax.configs.study import convergence, proxies, ratio

from sgt_jax.errors import DataError
from sgt_jax.study import arms, history, records, reuse, tables
from sgt_jax.study.run import write_study
from tests.study.test_page import results


@pytest.fixture
def other(tmp_path):
    """Results of the proxies study, with true fingerprints, and pictures of two arms whose names begin alike."""
    folder = results(epath.Path(tmp_path) / "proxies", ("base", "sft", "edges", "segmentation"))
    config = proxies.get_config()
    for record in list(records.finished(folder)):
        run = arms.Run(record["arm"], record["seed"])
        record["fingerprint"] = arms.fingerprint(arms.run_config(config, run))
        records.write_json(folder / records.RUNS / f"{run.name}.json", record)
    for path in (folder / records.RUNS).glob("edges_*.json"):  # another study's arm, with a name that begins as sft's
        path.rename(path.with_name(path.name.replace("edges", "sft_long")))
    (folder / records.PICTURES).mkdir()
    for name in ("sft_masks", "sft_long_masks", "segmentation_masks"):
        (folder / records.PICTURES / f"{name}.png").write_bytes(name.encode())
    return folder


def prepared(tmp_path, config):
    own = epath.Path(tmp_path) / config.name
    write_study(config, own)
    return own


def test_runs_of_the_same_settings_are_taken_with_their_origin(other, tmp_path, capsys):
    config = ratio.get_config()
    own = prepared(tmp_path, config)
    reuse.take_runs(config, arms.runs(config), own, [other])
    found = {(r["arm"], r["seed"]): r for r in records.finished(own)}
    assert set(found) == {("base", 0), *((arm, s) for arm in ("sft", "ratio_1_5") for s in (0, 1, 2))}
    assert found["ratio_1_5", 2]["reused"] == "proxies/segmentation_2"
    theirs = json.loads((other / records.RUNS / "segmentation_2.json").read_text())
    assert found["ratio_1_5", 2]["items"] == theirs["items"]
    assert {p.name: p.read_text() for p in (own / records.PICTURES).iterdir()} == {
        "sft_masks.png": "sft_masks", "ratio_1_5_masks.png": "segmentation_masks"
    }  # fmt: skip
    assert "arm ratio_1_5, seed 2 is proxies/segmentation_2" in capsys.readouterr().out
    assert set(tables.read_results(own).records) == {"base", "sft", "ratio_1_5"}
    # From there it can be taken again, and still says where it was run.
    third = prepared(tmp_path / "third", config)
    reuse.take_runs(config, arms.runs(config), third, [own])
    assert json.loads((third / records.RUNS / "sft_0.json").read_text())["reused"] == "proxies/sft_0"


def test_what_differs_is_not_taken(other, tmp_path):
    config = ratio.get_config()
    config.base.optimizer.learning_rate = 5e-4
    own = prepared(tmp_path, config)
    reuse.take_runs(config, arms.runs(config), own, [other])
    assert not list(records.finished(own))
    config = ratio.get_config()
    config.history = True  # scores on the way are wanted, and these runs have none
    reuse.take_runs(config, arms.runs(config), own, [other])
    assert not list(records.finished(own))
    with pytest.raises(DataError, match="--reuse: .*nowhere holds no study.json"):
        reuse.take_runs(config, [], own, [tmp_path / "nowhere"])
    config = ratio.get_config()
    (own / records.ITEMS).write_text(json.dumps({"answers": {"kind": ["count"]}}))
    with pytest.raises(DataError, match="scores other items than"):
        reuse.take_runs(config, arms.runs(config), own, [other])
    kept = json.loads((other / records.ITEMS).read_text())
    (own / records.ITEMS).unlink()
    records.write_json(other / records.ITEMS, kept | {"pope": {"category": kept["pope"]["category"]}})
    with pytest.raises(DataError, match=r"lacks \['picture'\] of evaluator 'pope'"):
        reuse.take_runs(config, arms.runs(config), own, [other])


def test_the_history_of_a_run_counts_what_was_seen_up_to_each_score(tmp_path):
    folder = epath.Path(tmp_path)
    (folder / "evaluations").mkdir()
    for step, right in ((0, [0, 0]), (4, [1, 0]), (6, [1, 1])):
        items = {"accuracy": right, "majority_accuracy": [1, 1], "kind": ["count", "more"], "prediction": ["a", "b"]}
        (folder / "evaluations" / f"{step:07d}_answers.json").write_text(json.dumps(items))
    lines = [
        {"step": 1, "kind": "train", "samples/understanding": 4.0, "fill/labels": 0.5},
        {"step": 4, "kind": "train", "samples/understanding": 2.0, "samples/proxy": 1.0, "fill/labels": 1.0},
        {"step": 4, "kind": "eval", "answers/accuracy": 0.5},
        {"step": 6, "kind": "train", "samples/understanding": 2.0, "fill/labels": 1.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = convergence.get_config()
    run = config.base
    run.data.rows = 2
    run.evaluators = ConfigDict(dict(answers=run.evaluators.answers))
    found = history.history(config, run, folder)
    assert [e["step"] for e in found] == [0, 4, 6]
    assert [e["samples"] for e in found] == [{}, {"proxy": 3, "understanding": 10}, {"proxy": 3, "understanding": 14}]
    assert [e["answer_tokens"] for e in found] == [0, 2 * 12 * 3.5, 2 * 12 * 5.5]
    assert found[1]["slots"] == 4 * 2 * (168 + 48)
    assert [e["items"] for e in found] == [{"answers": {"accuracy": x}} for x in ("00", "10", "11")]
