"""HallusionBench: questions about figures, some of them altered."""

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
from sgt_jax.evaluation.rules.official import yes_no


def read(folder: Path) -> list[Item]:
    """The toolkit's table, the official JSON with `hallusion_bench/`, or the hub's parquet of the split `image`.

    Questions without a picture are left out, as in the toolkit and in the paper (951 of 1,129).
    """
    if paths := layouts.first_files(folder, "HallusionBench.tsv"):
        return [normal_answer(item) for item in layouts.common_table(paths[0], integer_index=False)]
    if paths := layouts.first_files(folder, "**/image-*.parquet", "**/*.parquet"):
        items = [_named(item, item.pictures) for item in layouts.parquet_items(paths)]
        return without_repeats([item for item in items if item.pictures])
    if not (paths := layouts.first_files(folder, "HallusionBench.json")):
        raise DataError(f"{folder}: holds neither HallusionBench.tsv, HallusionBench.json nor parquet files")
    out = []
    for line in files.read_json(paths[0]):
        texts = {k: layouts.text_of(v) for k, v in line.items()}
        if not texts.get("filename"):
            continue
        name = texts["filename"].removeprefix("./")
        path = layouts.find(name, folder, "hallusion_bench")
        out.append(_named(Item("", texts, ()), (Picture(name, path=path),)))
    return without_repeats(out)


def _named(item: Item, pictures: tuple[Picture, ...]) -> Item:
    """The toolkit's index: category, subcategory, visual input, set, figure, question, joined by underscores."""
    row = dict(item.row)
    parts = [row.get(k, "") for k in ("category", "subcategory", "visual_input", "set_id", "figure_id", "question_id")]
    row |= {"index": "_".join(parts), "l2-category": row.get("subcategory", ""), "answer": row.get("gt_answer", "")}
    return normal_answer(dataclasses.replace(item, index=row["index"], row=row, pictures=pictures))


def score(items: Sequence[Item], replies: Sequence[str], style: str) -> Outcome:
    """aAcc, fAcc and qAcc in percent, and by our own count, which does not merge groups of equal numbers."""
    del style
    found = yes_no_outcome(items, replies, lambda rows, read, hits: yes_no.hallusion_table(rows, hits))
    apart = yes_no.hallusion_apart([item.row | {"index": item.index} for item in items], found.hits["toolkit"])
    own = {f"{name} by our own count, VD and VS apart": value for name, value in apart.items()}
    return dataclasses.replace(found, scores=found.scores | own)


def _figure(item: Item) -> str:
    """Questions about one figure are not independent."""
    parts = item.index.split("_")
    return "_".join([item.row.get("category", ""), item.row.get("l2-category", ""), *parts[3:5]])


BENCHMARK = Understanding(
    name="hallusion_bench",
    title="HallusionBench",
    size=951,
    max_new_tokens=20,
    place=Place("lmms-lab/HallusionBench", "BSD-3-Clause",
                ("HallusionBench.tsv", "HallusionBench.json hallusion_bench/", "image-*.parquet")),
    read=read,
    prompt=short_prompt,
    score=score,
    paper=("Overall / aAcc", 1, "aAcc over the 951 questions with a picture"),
    cluster=_figure,
)  # fmt: skip
