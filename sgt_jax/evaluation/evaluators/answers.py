"""Answers to held-out questions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sgt_jax.data.examples import Example, PlanItem
from sgt_jax.data.tasks import IMAGE_MARKER
from sgt_jax.errors import DataError
from sgt_jax.evaluation.result import Result
from sgt_jax.evaluation.rules import answers as rules_answers
from sgt_jax.evaluation.statistics import Score, compare


class Answers:
    """Questions answered greedily, one question per sequence, scored by exact match after normalisation.

    Options: source, n (questions), train_source and train_n (for the majority answer), max_new_tokens, batch.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        self._experiment, self._options = experiment, options
        self._questions = _questions(experiment.source(options["source"]), options["n"])
        known = _questions(experiment.source(options["train_source"]), options["train_n"])
        self.majority = rules_answers.majority_answers([q[2] for q in known], [q[1] for q in known])
        encode = experiment.tokenizer.encode
        self._plans = []
        for example, _, _, texts in self._questions:
            pictures = example.images or ((example.image,) if example.image is not None else ())
            plan = [PlanItem("vit_image", experiment.vit_size(p, len(pictures))) for p in pictures]
            self._plans.append((*plan, *(PlanItem("text", list(encode(t))) for t in texts)))

    def __call__(self, params: Any) -> Result:
        options = self._options
        predictions = self._experiment.sampler.answer(
            params, self._plans, max_new_tokens=options["max_new_tokens"], batch=options["batch"]
        )
        answers = [q[1] for q in self._questions]
        kinds = [q[2] for q in self._questions]
        guesses = [self.majority.get(kind, "") for kind in kinds]
        return Result(
            {
                "accuracy": rules_answers.correct(predictions, answers).astype(int).tolist(),
                "majority_accuracy": rules_answers.correct(guesses, answers).astype(int).tolist(),
                "prediction": predictions,
                "answer": answers,
                "kind": kinds,
                "picture": [q[0].name for q in self._questions],
                "question": [q[3][-1] for q in self._questions],
            }
        )


def _questions(source: Any, n: int) -> list[tuple[Example, str, str, tuple[str, ...]]]:
    """The first n questions of a source: (example, answer, kind, user texts before the answer)."""
    found = []
    for i in range(len(source)):
        example = source[i]
        kinds = example.extra.get("kinds") or ()
        # One question a picture: questions about the same picture are not independent.
        texts = []
        for turn in example.turns:
            if turn.role == "assistant":
                kind = kinds[0] if kinds else example.kind or "all"
                found.append((example, turn.text, kind, tuple(texts)))
                break
            text = turn.text.replace(IMAGE_MARKER, " ").strip()
            if text:
                texts.append(text)
        if len(found) == n:
            return found
    if not found:
        raise DataError(f"{source!r} holds no question with an answer")
    return found


def _answer_scores(after: dict, before: dict | None) -> list[Score]:
    baseline = np.asarray(after["majority_accuracy"])
    words = {"baseline_name": "majority answer", "items": "held-out questions", "unit": "%"}
    scores = []
    kinds = np.asarray(after["kind"])
    for kind in ["", *sorted(set(after["kind"]))]:
        pick = kinds == kind if kind else np.ones(len(kinds), bool)
        previous = np.asarray(before["accuracy"])[pick] if before else None
        scores.append(
            compare("understanding", "answer accuracy", np.asarray(after["accuracy"])[pick], before=previous,
                    baseline=baseline[pick], kind=kind, **words)
        )  # fmt: skip
    return scores
