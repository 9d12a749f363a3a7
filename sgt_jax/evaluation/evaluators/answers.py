"""Answers to held-out questions."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.data.examples import Example, Turn
from sgt_jax.data.tasks import IMAGE_MARKER
from sgt_jax.errors import DataError
from sgt_jax.evaluation import held_out
from sgt_jax.evaluation.result import Items, Result, Title, by_kind
from sgt_jax.evaluation.rules import answers as rules
from sgt_jax.evaluation.statistics import Score
from sgt_jax.evaluation.subject import Params, Subject


class Answers:
    """Questions answered greedily, one question per sequence, scored by exact match after normalisation.

    Options:
      source, n: whose first n examples with an answer are asked about; of each example the first question.
      train_source, train_n: the same for training questions, whose commonest answer per kind is the baseline.
      max_new_tokens: length at which an answer is cut off.
      batch: questions at a time.
      called: what tables call this score; "answer accuracy" without it. Two evaluators of this type need different names.
      on_bad: "error" (default), or "skip": examples that the source refuses, such as scenes that fit none of its kinds of
        questions, are passed over, counted in `passed_over`, and logged (see held_out.py).
    """

    TITLE = Title("Answers to questions")

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        self._subject, self._options = subject, options
        on_bad = options.get("on_bad", "error")
        self._questions, self.passed_over = _questions(subject.source(options["source"]), options["n"], on_bad)
        training, _ = _questions(subject.source(options["train_source"]), options["train_n"], on_bad)
        held_out.tell(self.passed_over, options["source"], len(self._questions))
        self.majority = rules.majority_answers([q.kind for q in training], [q.answer for q in training])
        task = subject.task({"task": "understanding"})
        self._plans = [task.condition(question.example) for question in self._questions]

    def __call__(self, params: Params) -> Result:
        options, questions = self._options, self._questions
        predictions = self._subject.answer(
            params, self._plans, max_new_tokens=options["max_new_tokens"], batch=options["batch"]
        )
        answers = [question.answer for question in questions]
        guesses = [self.majority.get(question.kind, "") for question in questions]
        return Result(
            {
                "accuracy": rules.correct(predictions, answers).astype(int).tolist(),
                "majority_accuracy": rules.correct(guesses, answers).astype(int).tolist(),
                "prediction": predictions,
                "answer": answers,
                "kind": [question.kind for question in questions],
                "picture": [question.example.name for question in questions],
                "question": [question.example.turns[-1].text for question in questions],
            }
        )

    @staticmethod
    def scores(after: Items, before: Items | None) -> list[Score]:
        """Accuracy over all questions, then by kind, beside the majority answer."""
        return by_kind(
            after, before, group="understanding", name="answer accuracy", key="accuracy", by="kind",
            kinds=sorted(set(after["kind"])), baseline=np.asarray(after["majority_accuracy"]),
            baseline_name="majority answer", items="held-out questions", unit="%",
        )  # fmt: skip


class _Question(NamedTuple):
    example: Example  # its conversation ends with the question
    answer: str
    kind: str


def _questions(source: Sequence[Example], n: int, on_bad: str) -> tuple[list[_Question], int]:
    """The first question of each of the first n examples that have one and its answer, and how many were passed over."""
    examples, passed_over = held_out.first(source, n, on_bad, lambda example: _answer(example) is not None)
    if not examples:
        raise DataError(f"{source!r} holds no question with an answer")
    questions = []
    for example in examples:
        end, kinds = _answer(example), example.extra.get("kinds") or ()
        # One question a picture: questions about the same picture are not independent.
        asked = dataclasses.replace(example, turns=_pictures_first(example.turns[:end]))
        questions.append(_Question(asked, example.turns[end].text, kinds[0] if kinds else example.kind or "all"))
    return questions, passed_over


def _answer(example: Example) -> int | None:
    """The number of the first turn that answers."""
    return next((k for k, turn in enumerate(example.turns) if turn.role == "assistant"), None)


def _pictures_first(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """User turns without markers, so that all pictures stand in front, unlike in training, where markers place them."""
    texts = (turn.text.replace(IMAGE_MARKER, " ").strip() for turn in turns)
    return tuple(Turn("user", text) for text in texts if text)
