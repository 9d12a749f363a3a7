"""Checks of what was recorded from benchmarks' own scripts: BAGEL's, MathVista's and SIBench's."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgt_jax.evaluation.benchmarks import files
from sgt_jax.evaluation.rules.official import bagel, mathvista, sibench, tables
from sgt_jax.parity.benchmarks.folder import close, close_all, expected_of, same
from sgt_jax.parity.checks import Check


def bagel_mme(folder: Path) -> Iterator[Check]:
    """Normalised replies, labels, the lines of the result files, task scores, the printed text."""
    name, expected = folder.name, expected_of(folder)
    replies = files.read_json(folder / "replies.json")
    for entry in [*expected["normalised_replies"], *expected["table"]]:
        got = bagel.normalise_mme(entry["reply"])
        yield same(name, f"normalised {entry.get('key', entry['reply'])!r}", got, entry["normalised"])
        if "label" in entry:
            yield same(name, f"label of {entry['reply']!r}", bagel.mme_label(got + "\n"), entry["label"])
    scores = {}
    for task in (*bagel.PERCEPTION, *bagel.COGNITION):
        lines = (folder / "questions" / f"{task}.txt").read_text("utf-8").splitlines()
        labels, answers, written, seen = [], [], [], {}
        for line in lines:
            picture, _, answer = line.split("\t")
            number = seen[picture] = seen.get(picture, -1) + 1
            text = bagel.normalise_mme(replies[f"{task}/{picture}/{number}"])
            written.append(f"{line}\t{text}")
            labels.append(bagel.mme_label(text + "\n"))
            answers.append(answer)
        recorded = (folder / "post_processed" / f"{task}.txt").read_text("utf-8").splitlines()
        yield same(name, f"result file {task}", written, recorded)
        scores[task] = bagel.mme_task_score(labels, answers)
    yield from close_all(name, "task_scores", scores, expected["task_scores"])
    for kind, tasks in (("perception", bagel.PERCEPTION), ("cognition", bagel.COGNITION)):
        yield close(name, kind, sum(scores[task] for task in tasks), expected[kind])
    if (folder / "results.txt").exists():
        printed = (folder / "results.txt").read_text("utf-8")
        yield same(name, "results.txt", bagel.mme_summary(scores).split(), printed.split())


def bagel_mmvp(folder: Path) -> Iterator[Check]:
    """What each reply is read as, the share of right pairs and questions, the first prompt."""
    name, expected = folder.name, expected_of(folder)
    replies = files.read_json(folder / "replies.json")
    rows = files.read_table(folder / "Questions.csv", ",")
    items, hits = {str(entry["index"]): entry for entry in expected["items"]}, []
    for row in rows:
        index = next(row[key] for key in ("Index", "lndex") if key in row)
        options = bagel.mmvp_options(row["Options"])
        read = bagel.read_mmvp(replies[index], options)
        hits.append(read == row["Correct Answer"].strip("()").upper())
        yield same(name, f"item {index} read", read, items[index]["extracted"])
        yield same(name, f"item {index} hit", hits[-1], items[index]["hit"])
    found = tables.pair_table(hits)
    yield close(name, "pair_accuracy", found["Overall"], expected["pair_accuracy"])
    yield close(name, "question_accuracy", found["Average"], expected["question_accuracy"])
    if "first_item_fields" in expected:
        options = bagel.mmvp_options(rows[0]["Options"])
        recorded = expected["first_item_fields"]
        yield same(name, "options of the first", options, recorded["option"])
        yield same(name, "prompt of the first", bagel.mmvp_prompt(rows[0]["Question"], options), recorded["question"])


def bagel_pope(folder: Path) -> Iterator[Check]:
    """What each reply is read as, the scores per category and their mean F1."""
    name, expected = folder.name, expected_of(folder)
    asked = files.read_json_lines(folder / "llava_pope_test.jsonl")
    given = {str(a["question_id"]): a["text"] for a in files.read_json(folder / "answers.json")}
    items, read = {str(e["question_id"]): e for e in expected["items"]}, {}
    for question in asked:
        key = str(question["question_id"])
        read[key] = bagel.read_pope(given[key])
        yield same(name, f"item {key} read", read[key], items[key]["read_as"])
    scores = {}
    for category in expected["categories"]:
        labels = files.read_json_lines(folder / "coco" / f"coco_pope_{category}.json")
        mine = [read[str(q["question_id"])] for q in asked if q["category"] == category]
        scores[category] = bagel.pope_scores(mine, [line["label"] for line in labels])
    yield from close_all(name, "categories", scores, expected["categories"])
    yield close(name, "mean_f1", tables.mean(s["f1"] for s in scores.values()), expected["mean_f1"])


def mathvista_official(folder: Path) -> Iterator[Check]:
    """Extraction, normalisation and hits with and without quick extraction and the ignore-empty option."""
    name, expected = folder.name, expected_of(folder)
    rows = files.read_json(folder / "results.json")
    hits: dict[str, list[bool]] = {}
    for item in expected["items"]:
        row = rows[item["pid"]]
        form = row["choices"], row["question_type"], row["answer_type"], row["precision"]
        for mode in ("plain", "quick"):
            text = mathvista.extract(row, row["response"], mode == "quick")
            yield same(name, f"{item['pid']} {mode} extraction", text, item[mode]["extraction"])
            for suffix in ("", "_ignore_empty"):
                got = mathvista.normalise(text, *form, ignore_empty=bool(suffix))
                hits.setdefault(mode + suffix, []).append(got == row["answer"])
                yield same(name, f"{item['pid']} {mode}{suffix}", got, item[mode]["prediction" + suffix])
                yield same(
                    name, f"{item['pid']} {mode}{suffix} hit", hits[mode + suffix][-1], item[mode]["hit" + suffix]
                )
    accuracy = {mode: tables.mean(values) for mode, values in hits.items()}
    yield from close_all(name, "accuracy", accuracy, expected["accuracy"])
    for i, entry in enumerate(expected["normalise_table"]):
        got = mathvista.normalise(
            entry["extraction"], entry["choices"], entry["question_type"], entry["answer_type"], entry["precision"]
        )
        yield same(name, f"normalise {i}", got, entry["normalised"])


def si_bench(folder: Path) -> Iterator[Check]:
    """Readings, hits, the errors by which the official scorer stops, relative accuracy, the overall mean."""
    name, expected = folder.name, expected_of(folder)
    replies = files.read_json(folder / "replies.json")
    rows = {row["index"]: row for path in sorted(folder.glob("*.tsv")) for row in files.read_table(path)}
    readings = []
    for entry in expected["items"]:
        row = rows[str(entry["index"])]
        reading = sibench.score(row["type"], replies[row["index"]], row["answer"])
        readings.append(reading)
        yield same(name, f"item {row['index']} read", reading.extracted, entry["extracted"])
        yield same(name, f"item {row['index']} raises", reading.raises, entry.get("raises", ""))
        if entry["hit"] is None:
            yield same(name, f"item {row['index']} hit", reading.hit, None)
        else:
            yield close(
                name, f"item {row['index']} hit", math.nan if reading.hit is None else reading.hit, entry["hit"]
            )
    yield close(name, "overall", sibench.overall(readings), expected["overall_mean_of_scored"])
    for i, entry in enumerate(expected["mra_table"]):
        got: Any = sibench.relative_accuracy(entry["true"], entry["pred"])
        yield close(name, f"relative accuracy {i}", got, entry["score"])
