"""MathVista (testmini): mathematics in pictures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import files, layouts
from sgt_jax.evaluation.benchmarks.benchmark import Outcome, Place, Understanding, as_toolkit, flat
from sgt_jax.evaluation.benchmarks.items import Item, Picture, without_repeats
from sgt_jax.evaluation.rules.official import mathvista, tables


def read(folder: Path) -> list[Item]:
    """The toolkit's table, the hub's parquet, or the official testmini.json with `images/`."""
    if paths := layouts.first_files(folder, "MathVista_MINI.tsv"):
        return [_checked(item) for item in layouts.common_table(paths[0])]
    if paths := layouts.first_files(folder, "**/testmini*.parquet", "**/*.parquet"):
        items = layouts.parquet_items(paths, index="pid", image="decoded_image")
        return [_checked(_official(item)) for item in items]
    if not (paths := layouts.first_files(folder, "testmini.json", "results.json")):
        raise DataError(f"{folder}: holds neither MathVista_MINI.tsv, testmini.json nor parquet files")
    out = []
    for pid, line in files.read_json(paths[0]).items():
        row = {k: layouts.text_of(v) for k, v in line.items() if k != "response"}
        picture = Picture(row["image"], path=layouts.find(row["image"], folder))
        out.append(_checked(_official(Item(str(pid), {**row, "index": str(pid)}, (picture,)))))
    return without_repeats(out)


def _official(item: Item) -> Item:
    """The toolkit's columns from the official ones: the letter of the right choice, the task and skills."""
    import ast

    row = dict(item.row)
    try:
        meta = (
            ast.literal_eval(row["metadata"])
            if row.get("metadata", "").startswith("{'")
            else _json(row.get("metadata"))
        )
        choices = ast.literal_eval(row["choices"]) if row.get("choices") else []
    except (ValueError, SyntaxError):
        return dataclasses.replace(item, bad="its metadata or choices cannot be read")
    letter = chr(65 + choices.index(row["answer"])) if row["answer"] in choices else ""
    row |= {
        "choices": str(choices),
        "answer_option": letter,
        "task": meta.get("task", ""),
        "skills": str(meta.get("skills", [])),
    }
    return dataclasses.replace(item, row=row)


def _json(text: str | None) -> dict:
    import json

    return json.loads(text) if text else {}


def _checked(item: Item) -> Item:
    try:
        mathvista.choices_of({"choices": item.row.get("choices") or "[]"})
    except DataError as error:
        return dataclasses.replace(item, bad=item.bad or str(error))
    return item


def prompt(item: Item, style: str) -> str:
    """The ready query of the official files; the toolkit's table holds it as its question."""
    del style
    return item.row.get("query") or item.row["question"]


def score(items: Sequence[Item], replies: Sequence[str], style: str) -> Outcome:
    """The toolkit's rules without its judge, and the official quick extraction."""
    del style
    rows, texts = as_toolkit(items, replies)
    readings = [mathvista.read_by_rules(row, text) for row, text in zip(rows, texts)]
    table = {name: {"acc": entry["acc"]} for name, entry in mathvista.table(rows, readings).items()}
    nearest = [float(_official_hit(item, text, ignore_empty=False)) for item, text in zip(items, replies)]
    hits = {"rules": [float(r.hit) for r in readings],
            "own reading": [float(mathvista.plain_hit(row, text)) for row, text in zip(rows, replies)],
            "official quick": [float(_official_hit(item, text)) for item, text in zip(items, replies)]}  # fmt: skip
    scores = {f"{name}, rules only (lower bound)": value for name, value in flat(table).items()}
    scores["official script, quick extraction (lower bound)"] = tables.mean(hits["official quick"])
    scores["official script, quick extraction, without ignore-empty"] = tables.mean(nearest)
    scores["accuracy by our own reading"] = tables.mean(hits["own reading"])
    judged = [item.index for item, reading in zip(items, readings) if not reading.prefetch]
    return Outcome(scores, [r.result for r in readings], hits, "rules", judged)


def _official_hit(item: Item, reply: str, ignore_empty: bool = True) -> bool:
    choices = list(mathvista.choices_of(item.row | {"choices": item.row.get("choices") or "[]"}).values())
    row = {**item.row, "choices": choices}
    try:
        precision = float(item.row.get("precision") or 0)
    except ValueError:
        precision = 0.0
    extracted = mathvista.extract(row, reply, quick=True)
    if row["question_type"] == "multi_choice" and not choices:
        return False
    form = choices, row["question_type"], row["answer_type"], precision
    return mathvista.normalise(extracted, *form, ignore_empty=ignore_empty) == row["answer"]


BENCHMARK = Understanding(
    name="mathvista",
    title="MathVista (testmini)",
    size=1000,
    max_new_tokens=4096,
    place=Place(
        "AI4Math/MathVista", "CC BY-SA 4.0", ("MathVista_MINI.tsv", "testmini.json images/", "testmini-*.parquet")
    ),
    read=read,
    prompt=prompt,
    score=score,
    paper=("Overall / acc, rules only", 1, "accuracy with a judge that extracts answers"),
)
