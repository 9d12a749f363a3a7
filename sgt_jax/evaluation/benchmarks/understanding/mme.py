"""MME: two yes/no questions about every picture, in fourteen categories."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import layouts
from sgt_jax.evaluation.benchmarks.benchmark import (
    Outcome,
    Place,
    Understanding,
    normal_answer,
    short_prompt,
    yes_no_outcome,
)  # fmt: skip
from sgt_jax.evaluation.benchmarks.items import Item, Picture, without_repeats
from sgt_jax.evaluation.rules.official import bagel, yes_no

TASKS = (*bagel.PERCEPTION, *bagel.COGNITION)


def read(folder: Path) -> list[Item]:
    """The toolkit's table, the hub's parquet, or the official text files of lines `picture, question, answer`."""
    if paths := layouts.first_files(folder, "MME.tsv"):
        return [normal_answer(item) for item in layouts.common_table(paths[0])]
    if paths := layouts.first_files(folder, "**/*.parquet"):
        items = layouts.parquet_items(paths)
        items = [dataclasses.replace(i, row={**i.row, "image_path": i.row.get("question_id", i.index)}) for i in items]
        return [normal_answer(item) for item in items]
    base = next((b for b in (folder, folder / "questions") if (b / f"{TASKS[0]}.txt").is_file()), None)
    if base is None:
        raise DataError(f"{folder}: holds neither MME.tsv, parquet files nor {TASKS[0]}.txt")
    return without_repeats([item for task in TASKS for item in _task(base, folder, task)])


def _task(base: Path, folder: Path, task: str) -> list[Item]:
    try:
        lines = (base / f"{task}.txt").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{base / task}.txt: cannot be read; MME has fourteen such files") from None
    out = []
    for number, line in enumerate(lines):
        parts, index = line.split("\t"), f"{task}/{number}"
        if len(parts) != 3:
            out.append(
                Item(index, {"index": index, "category": task}, (), f"line {number + 1} has {len(parts)} fields, not 3")
            )
            continue
        name, question, answer = parts
        path = layouts.find(name, folder, task, f"{task}/images", f"images/{task}")
        row = {"index": index, "question": question, "answer": answer, "category": task, "image_path": f"{task}/{name}"}
        out.append(normal_answer(Item(index, row, (Picture(name, path=path),))))
    return out


def prompt(item: Item, style: str) -> str:
    """BAGEL's suffix follows after a blank."""
    return f"{item.row['question']} {bagel.SHORT_ANSWER}" if style == "bagel" else short_prompt(item, style)


def score(items: Sequence[Item], replies: Sequence[str], style: str) -> Outcome:
    """The toolkit's rating where all fourteen categories are there; with BAGEL's prompt also its own."""

    def table(rows: list, read: list, hits: list) -> dict[str, float]:
        pairs: dict[str, int] = {}
        for row in rows:
            pairs[row["image_path"]] = pairs.get(row["image_path"], 0) + 1
        whole = [i for i, row in enumerate(rows) if pairs[row["image_path"]] >= 2]
        if {rows[i]["category"] for i in whole} < set(TASKS):
            return {}
        return yes_no.mme_table([rows[i] for i in whole], [hits[i] for i in whole])

    outcome = yes_no_outcome(items, replies, table)
    if style != "bagel":
        return outcome
    labels = [bagel.mme_label(bagel.normalise_mme(reply) + "\n") for reply in replies]
    scores = {}
    for task in TASKS:
        mine = [i for i, item in enumerate(items) if item.row["category"] == task]
        scores[f"{task} by BAGEL's rule"] = bagel.mme_task_score(
            [labels[i] for i in mine], [items[i].row["answer"] for i in mine]
        )
    for kind, tasks in (("perception", bagel.PERCEPTION), ("cognition", bagel.COGNITION)):
        scores[f"{kind} by BAGEL's rule"] = sum(scores[f"{task} by BAGEL's rule"] for task in tasks)
    hits = [float(label == item.row["answer"].lower()) for label, item in zip(labels, items)]
    return dataclasses.replace(outcome, scores=scores | outcome.scores, hits={"BAGEL": hits, **outcome.hits})


BENCHMARK = Understanding(
    name="mme",
    title="MME",
    size=2374,
    max_new_tokens=20,
    place=Place("lmms-lab/MME", "see its card", ("MME.tsv", "TASK.txt (14) TASK/ with pictures", "*.parquet")),
    read=read,
    prompt=prompt,
    score=score,
    paper=("perception", 1, "sum of ten categories (not in the paper's tables)"),
    cluster=lambda item: item.row.get("image_path") or item.index,
)
