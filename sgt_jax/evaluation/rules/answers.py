"""Scores of short answers to questions about pictures, beside what always giving the commonest answer would score."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from sgt_jax.errors import DataError
from sgt_jax.evaluation import statistics

_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)}
_ARTICLES = {"a", "an", "the"}


def normalise(answer: str) -> str:
    """The answer without case, punctuation, articles and number words: "The Red one." and "red 1" are the same."""
    # A point or comma between digits belongs to the number, a hyphen in a word is as good as a space.
    text = re.sub(r"(?<!\d)[.,]|[.,](?!\d)|[^\w\s.,]", " ", answer.lower())
    return " ".join(_DIGITS.get(word, word) for word in text.split() if word not in _ARTICLES)


def matches(prediction: str, answers: str | Sequence[str]) -> bool:
    """Whether the prediction equals the answer, or one of several accepted answers, after `normalise`."""
    accepted = [answers] if isinstance(answers, str) else answers
    return normalise(prediction) in {normalise(answer) for answer in accepted}


def majority_answers(kinds: Sequence[str], answers: Sequence[str]) -> dict[str, str]:
    """The commonest normalised answer of each question kind (of a tie the first in the alphabet).

    Give it training answers: the majority of the held-out answers would be peeking.
    """
    counts: dict[str, Counter[str]] = {}
    for kind, answer in zip(kinds, answers, strict=True):
        counts.setdefault(kind, Counter())[normalise(answer)] += 1
    return {kind: min(c, key=lambda answer: (-c[answer], answer)) for kind, c in counts.items()}


def correct(predictions: Sequence[str], answers: Sequence[str | Sequence[str]]) -> np.ndarray:
    """bool [n]: which predictions match."""
    return np.array([matches(p, a) for p, a in zip(predictions, answers, strict=True)], bool)


def score_answers(
    predictions: Sequence[str],
    answers: Sequence[str | Sequence[str]],
    kinds: Sequence[str],
    majority: Mapping[str, str],
    *,
    before: Sequence[str] | None = None,
    pictures: Sequence[str] | None = None,
    group: str = "understanding",
    name: str = "answer accuracy",
) -> list[statistics.Score]:
    """Accuracy over all questions, then per kind, each beside the majority answer and the model before training.

    Arguments:
      predictions: what the trained model said, one per question.
      answers: the right answers (or lists of accepted ones).
      kinds: the kind of each question.
      majority: kind -> commonest training answer, from `majority_answers`.
      before: what the untrained model said to the same questions.
      pictures: which picture each question is about, if some share one; intervals then treat pictures as independent.
    """
    missing = sorted(set(kinds) - set(majority))
    if missing:
        raise DataError(f"no training answers of kind {', '.join(missing)}: the majority answer is unknown")
    after = correct(predictions, answers)
    first = None if before is None else correct(before, answers)
    base = correct([majority[kind] for kind in kinds], answers)
    kinds = np.asarray(kinds)
    shared = None if pictures is None else np.asarray(pictures)
    scores = []
    for kind in ["", *sorted(set(kinds.tolist()))]:
        chosen = kinds == kind if kind else np.ones(len(kinds), bool)
        scores.append(
            statistics.compare(
                group,
                name,
                after[chosen],
                before=None if first is None else first[chosen],
                baseline=base[chosen],
                baseline_name="majority answer",
                items="held-out questions",
                unit="%",
                kind=kind,
                groups=None if shared is None else shared[chosen],
            )
        )
    return scores
