"""MMBench: every question is asked once per rotation of its options, and counts only if all rotations are right."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import layouts
from sgt_jax.evaluation.benchmarks.benchmark import Outcome, Place, Understanding, choice_outcome, choice_prompt
from sgt_jax.evaluation.benchmarks.items import Item, without_repeats
from sgt_jax.evaluation.rules.official import choices, tables

STEP = 1_000_000


def read(folder: Path) -> list[Item]:
    """The toolkit's or the official table, or the hub's parquet; rotations are added where the file has none."""
    if paths := layouts.first_files(folder, "MMBench_DEV_EN.tsv", "MMBench*.tsv", "mmbench*.tsv"):
        items = layouts.common_table(paths[0])
    elif paths := layouts.first_files(folder, "**/*.parquet"):
        items = layouts.parquet_items(paths, index="index", rename={"L2-category": "l2-category"})
    else:
        raise DataError(f"{folder}: holds neither MMBench_DEV_EN.tsv nor parquet files")
    if any(item.index.isdigit() and int(item.index) >= STEP for item in items):
        return items
    return without_repeats([turned for item in items for turned in _rotations(item)])


def _rotations(item: Item) -> list[Item]:
    """The question with its options moved on by 0, 1, 2, ... letters; rotation r has the index q + r * 1,000,000."""
    options = choices.options_of(item.row)
    if item.bad or not item.index.isdigit():
        return [item]
    letters, out = list(options), []
    for r in range(len(letters) or 1):
        texts = {letter: options[letters[(i + r) % len(letters)]] for i, letter in enumerate(letters)}
        answer = item.row.get("answer", "")
        moved = letters[(letters.index(answer) - r) % len(letters)] if answer in letters else answer
        index = str(int(item.index) + r * STEP)
        out.append(dataclasses.replace(item, index=index, row={**item.row, **texts, "answer": moved, "index": index}))
    return out


def score(items: Sequence[Item], replies: Sequence[str], style: str) -> Outcome:
    """Groups of rotations; a group of which a rotation is missing counts by those that are there."""
    del style

    def table(rows: list, hits: list) -> dict:
        found = tables.circular_hits([int(row["index"]) for row in rows], hits)
        base = {int(row["index"]) % STEP: row for row in reversed(rows)}
        return tables.accuracy_table([base[q] for q in found], list(found.values()))

    found = choice_outcome(items, replies, table)
    groups = tables.circular_hits([int(item.index) for item in items], found.hits["own reading"])
    own = {"circular accuracy by our own reading": tables.mean(groups.values())}
    return dataclasses.replace(found, scores=found.scores | own)


BENCHMARK = Understanding(
    name="mmbench",
    title="MMBench (dev, English)",
    size=0,
    max_new_tokens=100,
    place=Place("lmms-lab/MMBench", "Apache-2.0", ("MMBench_DEV_EN.tsv", "*.parquet")),
    read=read,
    prompt=choice_prompt,
    score=score,
    paper=("dev / Overall", 100, "circular accuracy (not in the paper's tables)"),
    cluster=lambda item: str(int(item.index) % STEP) if item.index.isdigit() else item.index,
)
