"""How VLMEvalKit sees a table after it has been written and read again by pandas, and how it averages hits."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# The words that pandas reads as a missing value. The toolkit turns a missing prediction into the word "nan".
MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
     "NaN", "None", "n/a", "nan", "null")
)  # fmt: skip
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_INTEGER = re.compile(r"\s*[+-]?\d{1,18}\s*", re.ASCII)

Row = Mapping[str, Any]


def column_texts(cells: Sequence[str]) -> list[str | None]:
    """The cells of one column as the toolkit prints them: None where missing.

    A column that holds numbers alone becomes numbers: of integers with a gap, "8" becomes "8.0".
    """
    present = [cell for cell in cells if cell not in MISSING]
    if present and all(_INTEGER.fullmatch(cell) for cell in present) and len(present) == len(cells):
        return [str(int(cell)) for cell in cells]
    if present and all(_NUMBER.fullmatch(cell) for cell in present):
        return [None if cell in MISSING else str(float(cell)) for cell in cells]
    return [None if cell in MISSING else cell for cell in cells]


def read_back(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str | None]]:
    """Rows of texts after a round trip through the toolkit's tables, column by column."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: column_texts([row.get(name) or "" for row in rows]) for name in names}
    return [{name: columns[name][i] for name in names} for i in range(len(rows))]


def read_back_replies(replies: Sequence[str]) -> list[str]:
    """Replies as the toolkit's rules get them: a missing one is the word nan."""
    return ["nan" if text is None else text for text in column_texts(replies)]


def mean(values: Iterable[float]) -> float:
    """Their mean in the order given, as NumPy adds; not-a-number of nothing."""
    array = np.asarray(list(values), float)
    return float(np.mean(array)) if array.size else math.nan


# How the toolkit shortens MMBench's groups in its table.
SHORT_NAMES = {
    "coarse_perception": "CP",
    "finegrained_perception (instance-level)": "FP-S",
    "finegrained_perception (cross-instance)": "FP-C",
    "logic_reasoning": "LR",
    "relation_reasoning": "RR",
    "attribute_reasoning": "AR",
}


def accuracy_table(rows: Sequence[Row], hits: Sequence[float]) -> dict[str, dict[str, float]]:
    """split -> {"Overall" or group: mean hit}, groups by l2-category and category where the rows have them."""
    splits = [row.get("split") or "none" for row in rows]
    table: dict[str, dict[str, float]] = {}
    for split in sorted(set(splits)):
        mine = [i for i, name in enumerate(splits) if name == split]
        scores = {"Overall": mean(hits[i] for i in mine)}
        for key in ("l2-category", "category"):
            for group in sorted({row[key] for row in rows if row.get(key)}):
                scores[SHORT_NAMES.get(group, group)] = mean(hits[i] for i in mine if rows[i].get(key) == group)
        table[split] = scores
    return table


def source_table(rows: Sequence[Row], hits: Sequence[float]) -> dict[str, dict[str, float]]:
    """CV-Bench 2D: the mean over sources of the accuracy per source, not over questions."""
    sources = sorted({row["source"] for row in rows})
    scores = {name: mean(hit for row, hit in zip(rows, hits) if row["source"] == name) for name in sources}
    return {"2D": {**scores, "Overall": mean(scores.values())}}


def pair_table(hits: Sequence[float]) -> dict[str, float]:
    """MMVP: Average is per question, Overall per pair of consecutive questions (hits in the order of the index)."""
    pairs = [hits[i] and hits[i + 1] for i in range(0, len(hits) - 1, 2)]
    return {"Average": mean(hits), "Overall": mean(pairs)}


def circular_hits(indices: Sequence[int], hits: Sequence[float]) -> dict[int, int]:
    """MMBench: question -> 1 if all its rotations are right; rotation r of question q has the index q + r * 1,000,000."""
    found: dict[int, int] = {}
    for index, hit in zip(indices, hits, strict=True):
        question = index % 1_000_000
        found[question] = int(bool(found.get(question, 1) and hit))
    return found
