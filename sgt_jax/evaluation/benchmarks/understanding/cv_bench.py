"""CV-Bench: counting, relations, depth and distance in photos."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import files, layouts
from sgt_jax.evaluation.benchmarks.benchmark import Outcome, Place, Understanding, choice_outcome
from sgt_jax.evaluation.benchmarks.items import Item, without_repeats
from sgt_jax.evaluation.rules.official import bagel, tables


def read(folder: Path) -> list[Item]:
    """The toolkit's two tables, the hub's parquet files, or its JSON lines with `img/`."""
    if paths := layouts.first_files(folder, "CV-Bench-*D.tsv"):
        found = [item for path in paths for item in _of_table(path)]
    elif paths := layouts.first_files(folder, "test_*d.parquet", "**/test*.parquet"):
        found = [_of_hub(item) for item in layouts.parquet_items(paths, index="idx")]
    elif paths := layouts.first_files(folder, "test_*d.jsonl"):
        rows = [row for path in paths for row in files.read_json_lines(path)]
        found = [_of_line(row, folder) for row in rows]
    else:
        raise DataError(f"{folder}: holds neither CV-Bench-2D.tsv, test_2d.parquet nor test_2d.jsonl")
    return without_repeats(found)


def _of_table(path: Path) -> list[Item]:
    kind = path.stem.removeprefix("CV-Bench-")
    items = layouts.common_table(path)
    return [
        dataclasses.replace(i, index=f"{kind}/{i.index}", row={**i.row, "split": i.row.get("split") or kind})
        for i in items
    ]


def _of_hub(item: Item) -> Item:
    import ast

    row = dict(item.row)
    try:
        choices = ast.literal_eval(row.get("choices") or "[]")
    except (ValueError, SyntaxError):
        return dataclasses.replace(item, bad=f"choices {row['choices'][:40]!r} are no list")
    row |= {chr(65 + i): str(text) for i, text in enumerate(choices)}
    row |= {"answer": row["answer"].strip("()"), "category": row.get("task", ""), "split": row["type"]}
    return dataclasses.replace(item, index=f"{row['type']}/{item.index}", row=row)


def _of_line(row: dict, folder: Path) -> Item:
    texts = {k: layouts.text_of(v) for k, v in row.items()}
    name = texts.get("filename") or texts.get("image", "")
    pictures = tuple(layouts.paths_of(name, folder)) if (folder / name).is_file() else (
        layouts.Picture(name, path=layouts.find(name, folder, "img")),
    )  # fmt: skip
    return _of_hub(Item(texts["idx"], texts | {"index": texts["idx"]}, pictures))


def prompt(item: Item, style: str) -> str:
    """The benchmark's own prompt column."""
    text = item.row.get("prompt") or item.row["question"]
    return f"{text}\n{bagel.LETTER_ANSWER}" if style == "bagel" else text


def score(items: Sequence[Item], replies: Sequence[str], style: str) -> Outcome:
    """2D: mean over sources; 3D: plain; and the mean of both."""
    del style

    def table(rows: list, hits: list) -> dict[str, float]:
        out: dict[str, float] = {}
        for kind, make in (("2D", tables.source_table), ("3D", tables.accuracy_table)):
            mine = [i for i, row in enumerate(rows) if row["split"] == kind]
            if mine:
                found = make([rows[i] for i in mine], [hits[i] for i in mine])[kind]
                out |= {f"{kind} / {name}": value for name, value in found.items()}
        halves = [out[name] for name in ("2D / Overall", "3D / Overall") if name in out]
        return {**out, "CV-Bench": tables.mean(halves)} if len(halves) == 2 else out

    return choice_outcome(items, replies, table)


BENCHMARK = Understanding(
    name="cv_bench",
    title="CV-Bench",
    size=2638,
    max_new_tokens=100,
    place=Place("nyu-visionx/CV-Bench", "Apache-2.0; pictures keep the terms of their sources",
                ("CV-Bench-2D.tsv CV-Bench-3D.tsv", "test_2d.parquet test_3d.parquet", "test_2d.jsonl test_3d.jsonl img/")),
    read=read,
    prompt=prompt,
    score=score,
    paper=("CV-Bench", 100, "(acc 2D + acc 3D) / 2, acc 2D the mean over sources"),
)  # fmt: skip
