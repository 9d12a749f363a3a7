"""MMStar: 1,500 questions that need their picture."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import layouts
from sgt_jax.evaluation.benchmarks.benchmark import Outcome, Place, Understanding, choice_outcome, choice_prompt
from sgt_jax.evaluation.benchmarks.items import Item
from sgt_jax.evaluation.rules.official import bagel, choices, tables


def read(folder: Path) -> list[Item]:
    """The toolkit's table, or the hub's parquet, whose options stand inside the question."""
    if paths := layouts.first_files(folder, "MMStar.tsv"):
        return layouts.common_table(paths[0])
    if paths := layouts.first_files(folder, "mmstar.parquet", "**/*.parquet"):
        return [_with_options(item) for item in layouts.parquet_items(paths, index="index")]
    raise DataError(f"{folder}: holds neither MMStar.tsv nor parquet files")


def _with_options(item: Item) -> Item:
    found = layouts.options_in_text(item.row["question"])
    return dataclasses.replace(item, row={**item.row, **found, "inside": "1"})


def prompt(item: Item, style: str) -> str:
    """The options are given once: those inside the question are not listed again."""
    if item.row.get("inside") and choices.options_of(item.row):
        text = item.row["question"]
        return f"{text}\n{bagel.LETTER_ANSWER}" if style == "bagel" else f"Question: {text}\n"
    return choice_prompt(item, style)


def score(items: Sequence[Item], replies: Sequence[str], style: str) -> Outcome:
    """Accuracy and its groups, as fractions."""
    del style
    return choice_outcome(items, replies, tables.accuracy_table)


BENCHMARK = Understanding(
    name="mmstar",
    title="MMStar",
    size=1500,
    max_new_tokens=100,
    place=Place("Lin-Chen/MMStar", "see its card", ("MMStar.tsv", "mmstar.parquet")),
    read=read,
    prompt=prompt,
    score=score,
    paper=("Overall", 100, "accuracy"),
)
