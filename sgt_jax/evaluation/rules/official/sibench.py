"""SIBench's rules. Number replies are evaluated as Python by the official scorer; `arithmetic` computes the same values."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.evaluation.rules.official import arithmetic
from sgt_jax.evaluation.rules.official.tables import mean

# Sources whose questions get a suffix, and the suffix by answer type: protocol constants.
SUFFIXES = {
    "MCQ": "\nSelect from the given options, answer with letters only.",
    "YN": "\nAnswer with 'Yes' or 'No' only.",
    "Number": "\nAnswer using a single number and nothing else.",
}
UNREADABLE = "z"


class Reading(NamedTuple):
    """What the scorer takes a reply for, its hit (0 to 1), and the error by which the official scorer stops, if it does."""

    extracted: Any
    hit: float | None
    raises: str = ""


def reaches_no_judge(reply: str) -> bool:
    """Whether a multiple-choice reply is taken as it is.

    Raises:
      IndexError: an empty reply, as in the official scorer.
    """
    return bool(re.match(r"^[A-F][.:]", reply)) or "(" in reply[:3] or reply[0] in "ABCDEF"


def read_letter(reply: str) -> str:
    """The letter of a reply, or all of it up to a full stop or colon; "z" where the official scorer asks its judge."""
    text = reply if reaches_no_judge(reply) else UNREADABLE
    if "(" in text[:3]:
        text = text[1]
    return text.split(".")[0].split(":")[0]


def read_yes_no(reply: str) -> str:
    """The first three characters without marks, in lower case."""
    return re.sub(r"[^\w\s]", "", reply[:3].strip().lower())


def read_number(reply: str) -> Any:
    """The value of the reply as an expression, -1.0 if it has none."""
    try:
        return arithmetic.value(reply.strip())
    except arithmetic.NoValueError:
        return -1.0


def relative_accuracy(true: float, predicted: float) -> float:
    """The share of thresholds 0.5, 0.55 ... 0.95 (as NumPy counts them) with a relative error below 1 - threshold.

    Raises:
      TypeError, OverflowError: the prediction is no number that can be compared.
    """
    thresholds = np.arange(0.5, 1.0, 0.05)
    with np.errstate(all="ignore"):
        error = np.abs(np.float64(np.abs(predicted - true)) / true)
        return float(sum(bool(error < 1 - threshold) for threshold in thresholds)) / len(thresholds)


def score(kind: str, reply: str, answer: str) -> Reading:
    """The reading of one reply.

    Args:
      kind: "MCQ", "YN", "Number" or "Number_Int", the column `type`.
    """
    if kind == "MCQ":
        try:
            extracted = read_letter(reply)
        except IndexError:
            return Reading(None, None, "IndexError")
        return Reading(extracted, int(extracted != "" and extracted == answer))
    if kind == "YN":
        extracted, wanted = read_yes_no(reply), read_yes_no(answer)
        if wanted in ("yes", "no"):
            return Reading(extracted, int(extracted.strip() == wanted))
        return Reading(extracted, int(reply.strip().lower() == answer.strip().lower()))
    extracted, true = read_number(reply), arithmetic.value(str(answer))
    if kind == "Number_Int":
        return Reading(extracted, int(extracted == true))
    try:
        return Reading(extracted, relative_accuracy(true, extracted))
    except (TypeError, OverflowError) as error:
        return Reading(extracted, None, type(error).__name__)


def plain_hit(kind: str, reply: str, answer: str) -> float:
    """Our own reading, for the score beside the official one: letters, words and the first number anywhere in the reply."""
    if kind == "MCQ":
        letters = re.findall(r"(?<![A-Za-z])[A-F](?![A-Za-z])", reply)
        return float(set(letters) == set(re.findall("[A-F]", answer)) and bool(letters))
    if kind == "YN":
        words = [word for word in re.findall("[a-z]+", reply.lower()) if word in ("yes", "no")]
        return float(len(set(words)) == 1 and words[0] == answer.strip().lower())
    number = re.search(r"-?\d[\d,]*\.?\d*(?:[eE]-?\d{1,3})?", reply)
    if number is None:
        return 0.0
    found, true = float(number.group().replace(",", "")), float(arithmetic.value(str(answer)))
    return float(found == true) if kind == "Number_Int" else relative_accuracy(true, found)


def overall(readings: Sequence[Reading]) -> float:
    """The mean of the hits of those that the official scorer survives."""
    return mean(reading.hit for reading in readings if reading.hit is not None)


def groups(rows: Sequence[Mapping[str, Any]], readings: Sequence[Reading]) -> dict[str, float]:
    """Mean hit by answer type."""
    kinds = sorted({row["type"] for row in rows})
    return {kind: overall([r for row, r in zip(rows, readings) if row["type"] == kind]) for kind in kinds}
