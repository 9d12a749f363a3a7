"""RealWorldQA: photos from cars and phones."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import layouts
from sgt_jax.evaluation.benchmarks.benchmark import Outcome, Place, Understanding, choice_outcome, choice_prompt
from sgt_jax.evaluation.benchmarks.items import Item
from sgt_jax.evaluation.rules import answers
from sgt_jax.evaluation.rules.official import choices, tables


def read(folder: Path) -> list[Item]:
    """The toolkit's table, or the hub's parquet, whose questions hold their choices and the wish for a form."""
    if paths := layouts.first_files(folder, "RealWorldQA.tsv"):
        return layouts.common_table(paths[0])
    if paths := layouts.first_files(folder, "**/*.parquet"):
        return [_with_options(item) for item in layouts.parquet_items(paths)]
    raise DataError(f"{folder}: holds neither RealWorldQA.tsv nor parquet files")


def _with_options(item: Item) -> Item:
    lines = re.findall(r"^\s*\(?([A-H])[.):]\s*(.+)$", item.row["question"], re.MULTILINE)
    ordered = [letter for letter, _ in lines] == [chr(65 + i) for i in range(len(lines))]
    found = dict(lines) if ordered else {}
    return dataclasses.replace(item, row={**item.row, **found, "inside": "1"})


def prompt(item: Item, style: str) -> str:
    """The hub's questions are complete."""
    return item.row["question"] if item.row.get("inside") else choice_prompt(item, style)


def score(items: Sequence[Item], replies: Sequence[str], style: str) -> Outcome:
    """Accuracy; a question of the hub without choices is right if the reply is its word or number."""
    del style
    outcome = choice_outcome(items, replies, tables.accuracy_table)
    free = [bool(item.row.get("inside")) and not choices.options_of(item.row) for item in items]
    if not any(free):
        return outcome
    hits = [float(answers.matches(reply, item.row["answer"])) if one else hit
            for one, reply, item, hit in zip(free, replies, items, outcome.hits["toolkit"])]  # fmt: skip
    scores = {"accuracy by letter, word or number": tables.mean(hits), **outcome.scores}
    return dataclasses.replace(outcome, scores=scores, hits={"letter, word or number": hits, **outcome.hits},
                               main="letter, word or number")  # fmt: skip


BENCHMARK = Understanding(
    name="realworldqa",
    title="RealWorldQA",
    size=765,
    max_new_tokens=100,
    place=Place("xai-org/RealworldQA", "CC BY-ND 4.0", ("RealWorldQA.tsv", "*.parquet")),
    read=read,
    prompt=prompt,
    score=score,
    paper=("Overall", 100, "accuracy"),
)
