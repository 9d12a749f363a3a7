"""POPE: is a thing in the photo, asked at random, for popular things, and for those that usually stand together."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import files, layouts
from sgt_jax.evaluation.benchmarks.benchmark import (
    Outcome,
    Place,
    Understanding,
    normal_answer,
    short_prompt,
    yes_no_outcome,
)  # fmt: skip
from sgt_jax.evaluation.benchmarks.items import Item, Picture, without_repeats
from sgt_jax.evaluation.rules.official import bagel, tables, yes_no

CATEGORIES = ("random", "popular", "adversarial")


def read(folder: Path) -> list[Item]:
    """The toolkit's table, the hub's parquet, or the question and label files of the reference with COCO photos."""
    if paths := layouts.first_files(folder, "POPE.tsv"):
        return [normal_answer(item) for item in layouts.common_table(paths[0])]
    if paths := layouts.first_files(folder, "**/*.parquet"):
        return [normal_answer(item) for item in layouts.parquet_items(paths)]
    if not (paths := layouts.first_files(folder, "llava_pope_test.jsonl", "**/llava_pope_test.jsonl")):
        raise DataError(f"{folder}: holds neither POPE.tsv, parquet files nor llava_pope_test.jsonl")
    labels = {}
    for category in CATEGORIES:
        lines = files.read_json_lines(paths[0].parent / "coco" / f"coco_pope_{category}.json")
        labels[category] = iter(lines)  # the official script matches them by order, not by id
    out = []
    for line in files.read_json_lines(paths[0]):
        label = next(labels[line["category"]], {}).get("label", "")
        row = {"question": line["text"], "answer": label, "category": line["category"]}
        path = layouts.find(line["image"], folder, "val2014", "coco/val2014")
        index = str(line["question_id"])
        item = Item(
            index, {"index": index, **row}, (Picture(line["image"], path=path),), "" if label else "has no label"
        )
        out.append(normal_answer(item))
    return without_repeats(out)


def score(items: Sequence[Item], replies: Sequence[str], style: str) -> Outcome:
    """The toolkit's table; with BAGEL's prompt also its F1 per category and their mean."""
    outcome = yes_no_outcome(items, replies, lambda rows, read, hits: yes_no.pope_table(rows, read))
    once = yes_no.pope_once([item.row for item in items], outcome.read)
    outcome = dataclasses.replace(outcome, scores=outcome.scores | {"F1 by our own count, every question once": once})
    if style != "bagel":
        return outcome
    read = [bagel.read_pope(reply) for reply in replies]
    each = {}
    for category in CATEGORIES:
        mine = [i for i, item in enumerate(items) if category in item.row.get("category", "").split(",")]
        if mine:
            each[category] = bagel.pope_scores([read[i] for i in mine], [items[i].row["answer"].lower() for i in mine])[
                "f1"
            ]
    scores = {f"{name} / F1 by BAGEL's rule": value for name, value in each.items()}
    scores["mean F1 by BAGEL's rule"] = tables.mean(each.values())
    hits = [float(found == item.row["answer"].lower()) for found, item in zip(read, items)]
    return dataclasses.replace(outcome, scores=scores | outcome.scores, hits={"BAGEL": hits, **outcome.hits})


def _photo(item: Item) -> str:
    """Several questions share a photo; a table with its pictures inside does not say which."""
    named = [picture.name for picture in item.pictures if picture.path]
    return item.row.get("image_source") or (named[0] if named else item.index)


BENCHMARK = Understanding(
    name="pope",
    title="POPE",
    size=9000,
    max_new_tokens=20,
    place=Place("lmms-lab/POPE", "MIT; photos are COCO's",
                ("POPE.tsv", "llava_pope_test.jsonl coco/coco_pope_*.json val2014/", "*.parquet")),
    read=read,
    prompt=short_prompt,
    score=score,
    paper=("Overall / Overall", 1, "F1 x 100 over all questions"),
    cluster=_photo,
)  # fmt: skip
