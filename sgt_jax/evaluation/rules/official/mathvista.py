"""MathVista: the rules of VLMEvalKit before it asks its judge, and those of the official scripts without a judge."""

import ast
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sgt_jax.errors import DataError
from sgt_jax.evaluation.rules.official.choices import plain_choice, read_choice

Row = Mapping[str, Any]


# -- The toolkit -------------------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """Whether the rules took the reply ("prefetch"), what they took it for as text, and whether it is right."""

    prefetch: bool
    result: str
    hit: bool


def choices_of(row: Row) -> dict[str, str]:
    """letter -> text of the column `choices`, a Python list as text.

    Raises:
      DataError: not a list.
    """
    try:
        found = row["choices"] if isinstance(row["choices"], list) else ast.literal_eval(row["choices"] or "[]")
        return {chr(65 + i): str(text) for i, text in enumerate(found)}
    except (ValueError, SyntaxError, TypeError):
        raise DataError(f"choices {str(row['choices'])[:60]!r} are no list; write ['one', 'two']") from None


def _check(row: Row, reply: str, first: bool) -> Any:
    """The toolkit's check of a reply (first) or of an extraction: the value if it is right, else False.

    At first any readable letter counts, right or wrong.
    """
    result, wanted = None, row["answer"] or "nan"
    if row["question_type"] == "multi_choice":
        result, wanted = read_choice(reply, choices_of(row)), row["answer_option"]
        if first:
            return result
    else:
        kind = {"integer": int, "float": float}.get(row["answer_type"])
        if kind is None:
            result = str(None)  # nothing has been read into it at this point of the official code
        else:
            try:
                result = kind(reply)
                wanted = kind(wanted)
            except (ValueError, OverflowError):
                pass
    return (result if first else True) if result == wanted else False


def read_by_rules(row: Row, reply: str) -> Reading:
    """The toolkit's reading with a judge that always fails; a right 0 is not taken, because zero is falsy."""
    taken = _check(row, reply, first=True)
    if not taken:
        return Reading(False, "", bool(_check(row, "nan", first=False)))
    return Reading(True, str(taken), bool(_check(row, str(taken), first=False)))


def plain_hit(row: Row, reply: str) -> bool:
    """Our own reading, for the score beside the official one: also 0, units, and list answers count; letters as elsewhere."""
    if row["question_type"] == "multi_choice":
        return plain_choice(reply, choices_of(row)) == row["answer_option"]
    if row["answer_type"] in ("integer", "float"):
        numbers = re.findall(r"-?\d+(?:\.\d+)?(?:[eE]-?\d{1,3})?", reply.replace(",", ""))
        return len(numbers) == 1 and float(numbers[0]) == float(row["answer"])
    return "".join(reply.split()) == "".join(str(row["answer"]).split())


def skills_of(row: Row) -> list[str]:
    """The skills of a row: a Python list as text, or one skill."""
    try:
        found = ast.literal_eval(row["skills"])
    except (ValueError, SyntaxError):
        return [row["skills"]]
    return list(found) if isinstance(found, list | tuple) else [str(found)]


def table(rows: Sequence[Row], readings: Sequence[Reading]) -> dict[str, dict[str, float]]:
    """ "Overall", task or skill -> tot, prefetch, hit, and their rates in percent."""
    counts = {"tot": Counter(), "prefetch": Counter(), "hit": Counter()}
    for row, reading in zip(rows, readings, strict=True):
        names = ["Overall", row["task"], *skills_of(row)]
        counts["tot"].update(names)
        counts["prefetch"].update(names if reading.prefetch else ())
        counts["hit"].update(names if reading.hit else ())
    return {
        name: {key: counts[key][name] for key in counts}
        | {"prefetch_rate": counts["prefetch"][name] / n * 100, "acc": counts["hit"][name] / n * 100}
        for name, n in counts["tot"].items()
    }


# -- The official scripts ----------------------------------------------------------------------------------------------


def extract(row: Row, reply: str, quick: bool) -> str:
    """The official extraction with a judge that fails: exact choice text, plain numbers, and with `quick` one pattern."""
    if reply == "":
        return ""
    if row["question_type"] == "multi_choice" and reply in (row["choices"] or ()):
        return reply
    kind = {"integer": int, "float": float}.get(row["answer_type"])
    if kind is not None:
        try:
            return str(kind(reply))
        except (ValueError, OverflowError):
            pass
    said = re.search(r'The answer is "(.*)"\.', reply) if quick else None
    return said.group(1) if said else ""


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's: the least number of insertions, deletions and replacements."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def normalise(
    extraction: Any, choices: Sequence[str] | None, question_type: str, answer_type: str, precision: float | None,
    ignore_empty: bool = False,
) -> str | None:  # fmt: skip
    """The extraction in the form of the answer, None if it has none.

    A multiple-choice extraction that is no letter becomes the choice with the smallest edit distance, even if it is empty
    (points for nothing) unless `ignore_empty`.
    """
    if question_type == "multi_choice":
        text = extraction.strip() if isinstance(extraction, str) else str(extraction)
        if ignore_empty and not text:
            return None
        if bracketed := re.findall(r"\(([a-zA-Z])\)", text):
            text = bracketed[0].upper()
        letters = [chr(65 + i) for i in range(len(choices))]
        return choices[letters.index(text)] if text in letters else min(choices, key=lambda c: edit_distance(text, c))
    if answer_type == "list":
        return str(extraction)
    try:
        if answer_type == "integer":
            return str(int(float(extraction)))
        return str(round(float(extraction), int(precision))) if answer_type == "float" else None
    except (ValueError, TypeError, OverflowError):
        return None
