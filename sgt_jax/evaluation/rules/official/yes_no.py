"""VLMEvalKit's reading of yes and no, and its ratings: POPE, VSR, MME, HallusionBench."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sgt_jax.evaluation.rules.official.tables import mean

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_COMMA = re.compile(r"\d,\d")
UNKNOWN = "Unknown"
PERCEPTION = (
    "OCR", "artwork", "celebrity", "color", "count", "existence", "landmark", "position", "posters", "scene",
)  # fmt: skip
COGNITION = ("code_reasoning", "commonsense_reasoning", "numerical_calculation", "text_translation")

Row = Mapping[str, Any]


def read_yes_no(reply: str) -> str:
    """ "Yes", "No" or "Unknown".

    A mark with a blank beside it anywhere is removed, any other becomes a blank; a comma within a number makes all marks
    be removed. Only the first 32 full stops go (the official code passes a flag where a count belongs). Asterisks and
    colons stay, so a bold Yes is unknown.
    """
    text = given = reply.lower()
    joined = _NUMBER_COMMA.search(given) is not None
    for mark in _MARKS:
        beside = f"{mark} " in given or f" {mark}" in given
        text = text.replace(mark, "" if beside or joined else " ")
    words = _without_full_stops(text).split()
    if ("yes" in words) == ("no" in words):
        return UNKNOWN
    return "Yes" if "yes" in words else "No"


def _without_full_stops(text: str) -> str:
    return re.sub(r"\.(?!\d)", "", text, count=32)


def plain_yes_no(reply: str) -> str:
    """Our own reading: the first of the words yes and no, whatever marks surround it; both in the first clause is unknown."""
    clause = re.split(r"[.!?\n]", reply.strip(), maxsplit=1)[0] or reply
    words = re.findall(r"[a-z]+", clause.lower())
    found = {word for word in words if word in ("yes", "no")}
    return {"yes": "Yes", "no": "No"}[found.pop()] if len(found) == 1 else UNKNOWN


def f1(answers: Sequence[str], read: Sequence[str]) -> tuple[float, float, float]:
    """F1, precision and recall of Yes, as fractions; Unknown counts as No."""
    pairs = [(a == "Yes", r == "Yes") for a, r in zip(answers, read, strict=True)]
    right = sum(a and r for a, r in pairs)
    said, true = sum(r for _, r in pairs), sum(a for a, _ in pairs)
    precision = right / said if said else 0
    recall = right / true if true else 0
    both = precision + recall
    return (2 * (precision * recall) / both if both else 0), precision, recall


def pope_table(rows: Sequence[Row], read: Sequence[str]) -> dict[str, dict[str, float]]:
    """ "Overall" or category -> Overall (F1), acc, precision, recall in percent; a row counts once per category it names."""
    each = [(name, row["answer"], found) for row, found in zip(rows, read, strict=True)
            for name in (row["category"] or "").split(",")]  # fmt: skip
    table = {}
    for split in ["Overall", *sorted({name for name, _, _ in each if name})]:
        mine = [(a, r) for name, a, r in each if split in ("Overall", name)]
        score, precision, recall = f1(*zip(*mine))
        accuracy = mean(a == r for a, r in mine)
        table[split] = {
            "Overall": score * 100, "acc": accuracy * 100, "precision": precision * 100, "recall": recall * 100,
        }  # fmt: skip
    return table


def pope_once(rows: Sequence[Row], read: Sequence[str]) -> float:
    """Our own count of F1 over all, in percent: every row counts once, however many categories it names."""
    return f1([row["answer"] for row in rows], read)[0] * 100


def vsr_table(rows: Sequence[Row], read: Sequence[str]) -> dict[str, float]:
    """Precision, recall and acc in percent, f1_score as a fraction."""
    answers = [row["answer"] for row in rows]
    score, precision, recall = f1(answers, read)
    accuracy = mean(a == r for a, r in zip(answers, read))
    return {"precision": precision * 100, "recall": recall * 100, "acc": accuracy * 100, "f1_score": score}


def mme_table(rows: Sequence[Row], hits: Sequence[bool]) -> dict[str, float]:
    """Category -> 100 acc + 100 both right (questions of one image_path), and the sums perception and reasoning.

    Raises:
      KeyError: one of the fourteen categories is missing, as in the official rating.
    """
    by_picture: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for row, hit in zip(rows, hits, strict=True):
        by_picture[row["category"]][row["image_path"]].append(bool(hit))
    scores = {}
    for name, pictures in by_picture.items():
        accuracy = mean(hit for pair in pictures.values() for hit in pair)
        both = mean(pair[0] and pair[1] for pair in pictures.values())
        scores[name] = accuracy * 100 + both * 100
    sums = {"perception": sum(scores[n] for n in PERCEPTION), "reasoning": sum(scores[n] for n in COGNITION)}
    return {**sums, **scores}


def hallusion_table(rows: Sequence[Row], hits: Sequence[bool]) -> dict[str, dict[str, float]]:
    """ "Overall", category or l2-category -> aAcc, fAcc (all of a figure right), qAcc (all of a question right), percent.

    Set, figure and question are the fields 3, 4 and 5 of the index. Figures and questions are told apart by the
    l2-category without the category, so equal numbers under VD and VS fall together in Overall.
    """
    table = {}
    tests: dict[str, Callable[[Row], bool]] = {"Overall": lambda row: True}
    for key in ("category", "l2-category"):
        for name in sorted({row[key] for row in rows if row.get(key)}):
            tests[name] = lambda row, key=key, name=name: row[key] == name
    for split, wanted in tests.items():
        mine = [(row, bool(hit)) for row, hit in zip(rows, hits, strict=True) if wanted(row)]
        table[split] = {
            "aAcc": mean(hit for _, hit in mine) * 100,
            "fAcc": _all_right(mine, 4) * 100,
            "qAcc": _all_right(mine, 5) * 100,
        }
    return table


def hallusion_apart(rows: Sequence[Row], hits: Sequence[bool]) -> dict[str, float]:
    """Our own count of fAcc and qAcc over all, in percent: equal numbers under VD and VS are different questions."""
    own = [row | {"l2-category": f"{row['category']} {row['l2-category']}"} for row in rows]
    found = hallusion_table(own, hits)["Overall"]
    return {"fAcc": found["fAcc"], "qAcc": found["qAcc"]}


def _all_right(rows: Sequence[tuple[Row, bool]], field: int) -> float:
    groups: dict[tuple[str, str, str], bool] = {}
    for row, hit in rows:
        parts = row["index"].split("_")
        key = row["l2-category"], parts[3], parts[field]
        groups[key] = groups.get(key, True) and hit
    return mean(groups.values())
