"""The nano model answers a miniature of every benchmark; what was stopped goes on to the same bytes."""

import json
import random

import pytest

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import registry, runs
from sgt_jax.evaluation.benchmarks.buckets import MOST, cut
from sgt_jax.evaluation.benchmarks.records import Records
from sgt_jax.inference import load
from sgt_jax.inference.subject import CheckpointSubject
from tests.support import benchmark_folders as folders

LIMIT, BATCH, WORDS = 7, 4, 2


class Stopped(Exception):
    """What stands for a kill."""


@pytest.fixture(scope="module")
def model():
    assistant = load.load("package:nano")
    return CheckpointSubject(assistant, {}, ()), assistant.params, assistant.tokenizer.unknown_words


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", registry.UNDERSTANDING)
def test_a_stopped_run_goes_on_to_the_same_files(tmp_path, model, name, monkeypatch):
    folder, benchmark = folders.toolkit_tables(tmp_path / "data", name), registry.by_name(name)
    subject, params, unknown = model
    settings = runs.Settings(batch=BATCH, limit=LIMIT, max_new_tokens=WORDS, model="nano", weights="0")

    def run(out):
        return runs.run(benchmark, folder, out, runs.by_model(subject, params, benchmark, settings), settings, unknown)

    entries = run(tmp_path / "whole")
    assert entries["answered"] == LIMIT and not entries["bad"]
    stop, append = random.Random(name).randrange(LIMIT), Records.append

    def stopping(self, entry):
        if len(self) == stop:
            with self.path.open("ab") as file:
                file.write(b'{"index": "torn')  # as a kill in the middle of a line leaves it
            raise Stopped
        append(self, entry)

    with monkeypatch.context() as patched:
        patched.setattr(Records, "append", stopping)
        with pytest.raises(Stopped):
            run(tmp_path / "resumed")
    assert not (tmp_path / "resumed" / "scores.json").exists()
    run(tmp_path / "resumed")
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "whole")


def test_a_folder_of_another_model_is_not_mixed(tmp_path, model):
    folder, benchmark = folders.toolkit_tables(tmp_path / "data", "mmvp"), registry.by_name("mmvp")

    def answer(questions, records):
        for question in questions:
            if question.item.index not in records:
                records.append({"index": question.item.index, "reply": "A"})

    runs.run(benchmark, folder, tmp_path / "out", answer, runs.Settings(weights="a"))
    runs.run(benchmark, folder, tmp_path / "out", answer, runs.Settings(weights="a"))
    for changed in (
        runs.Settings(weights="b"),
        runs.Settings(weights="a", style="bagel"),
        runs.Settings(weights="a", limit=4),
    ):
        with pytest.raises(DataError, match="was begun with other .*choose another --out"):
            runs.run(benchmark, folder, tmp_path / "out", answer, changed)


def test_unknown_words_are_counted(tmp_path, model):
    folder, benchmark = folders.toolkit_tables(tmp_path / "data", "mmvp"), registry.by_name("mmvp")

    def answer(questions, records):
        for question in questions:
            records.append({"index": question.item.index, "reply": "A"})

    runs.run(benchmark, folder, tmp_path / "out", answer, runs.Settings(), model[2])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["unknown_words"]["lantern"] > 1 and manifest["unknown_words_in_all"] > 100
    assert manifest["settings"]["think"] is False and manifest["versions"]["jax"]


def test_batches_have_few_shapes_and_hold_everything():
    draw = random.Random(0)
    slots = [
        {"text": draw.randrange(8, 200), "vit": draw.randrange(16, 4900)} if draw.random() > 0.1 else None
        for _ in range(500)
    ]
    batches = cut(slots, 8)
    assert len({tuple(sorted(b.budgets.items())) for b in batches}) <= MOST
    assert sorted(i for b in batches for i in b.items) == [i for i, s in enumerate(slots) if s is not None]
    assert all(slots[i][lane] <= b.budgets[lane] for b in batches for i in b.items for lane in slots[i])
    assert cut(slots, 8) == batches and max(len(b.items) for b in batches) == 8
    used = sum(sum(slots[i].values()) for b in batches for i in b.items)
    paid = sum(sum(b.budgets.values()) * len(b.items) for b in batches)
    one_shape = max(sum(s.values()) for s in slots if s) * len([s for s in slots if s])
    assert paid < 1.25 * used < one_shape
    assert cut([], 8) == [] and len(cut([{"a": 3}] * 5, 2)) == 3


@pytest.mark.parametrize(("items", "batch"), [(256, 16), (67, 16), (40, 1), (3, 16)])
def test_only_the_batch_of_the_shortest_items_may_be_short_of_some(items, batch):
    """Rows that are filled up cost as much as items: in all shapes together there is one batch of them at most."""
    draw = random.Random(1)
    slots = [{"text": draw.randrange(8, 120)} for _ in range(items)]
    batches = cut(slots, batch)
    assert [len(b.items) for b in batches] == [items % batch or batch] + [batch] * ((items - 1) // batch)
    assert [b.budgets["text"] for b in batches] == sorted(b.budgets["text"] for b in batches)
    assert all(list(b.items) == sorted(b.items) for b in batches)


def test_a_prediction_table_has_the_form_that_the_toolkit_accepted(tmp_path):
    """Columns, rows and place are those of the recorded work folder; a limited run lacks rows, which the toolkit skips."""
    from sgt_jax.evaluation.benchmarks import files

    for name, recorded in (("mmstar", "MMStar"), ("pope", "POPE"), ("mmvp", "MMVP"), ("cv_bench", "CV-Bench-2D")):
        folder, benchmark = folders.toolkit_tables(tmp_path / "data", name), registry.by_name(name)
        place = folders.GOLDEN / "vlmevalkit_routes/route_b/work/nano/T20260102-030405"
        path = next(place.glob(f"nano_{recorded}.*"))
        rows = files.read_table(path) if path.suffix == ".tsv" else files.read_sheet(path)
        prefix = "2D/" if name == "cv_bench" else ""
        replies = {prefix + row["index"]: row["prediction"] for row in rows}

        def answer(questions, records, replies=replies):
            for question in questions:
                records.append({"index": question.item.index, "reply": replies.get(question.item.index, "A")})

        runs.run(benchmark, folder, tmp_path / name, answer, runs.Settings(model="nano"))
        ours = files.read_table(next((tmp_path / name / "work" / "nano").glob(f"T????????-??????/nano_{recorded}.tsv")))
        assert [list(row) for row in ours[:1]] == [list(row) for row in rows[:1]]
        assert {row["index"]: row for row in ours} == {row["index"]: row for row in rows}
