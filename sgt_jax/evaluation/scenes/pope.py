"""POPE's questions about procedural scenes: is there a red circle? The protocol is in `evaluation/rules/pope.py`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sgt_jax.data.examples import Example, Turn
from sgt_jax.data.sources.scenes.phrases import with_article
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.evaluation.result import Items, Result, Title, by_kind
from sgt_jax.evaluation.rules import pope
from sgt_jax.evaluation.scenes import scenes_of
from sgt_jax.evaluation.statistics import Score
from sgt_jax.evaluation.subject import Params, Subject


class Hallucination:
    """Yes-or-no questions about held-out scenes, half of them about things that are not there.

    Options:
      source, n: whose first n scenes are asked about.
      train_source, train_n: training scenes whose habits the absent classes follow.
      per_picture: questions with yes, and as many with no, per scene and category.
      seed: of the choice of classes.
      max_new_tokens, batch: length at which an answer is cut off, and questions at a time.
    """

    TITLE = Title("Questions about things that may not be there")

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        self._subject, self._options = subject, options
        source, train = (scenes_of(subject, options[name]) for name in ("source", "train_source"))
        classes = [(colour, shape) for colour in source.colours for shape in source.shapes]
        habits = pope.habits([_classes(train, i) for i in range(min(options["train_n"], len(train)))], classes)
        pictures = [_classes(source, i) for i in range(min(options["n"], len(source)))]
        self.polls = pope.polls(pictures, habits, options["per_picture"], options["seed"])
        # A present class is asked about in all three categories: answered once, counted three times.
        self._asked = list(dict.fromkeys((p.picture, p.asked) for p in self.polls))
        task = subject.task({"task": "understanding"})
        self._plans = [task.condition(_question(source[i], *asked)) for i, asked in self._asked]

    def __call__(self, params: Params) -> Result:
        options = self._options
        texts = self._subject.answer(
            params, self._plans, max_new_tokens=options["max_new_tokens"], batch=options["batch"]
        )
        said = {key: int(pope.says_yes(text)) for key, text in zip(self._asked, texts, strict=True)}
        answers = [said[p.picture, p.asked] for p in self.polls]
        return Result(
            {
                "accuracy": [int(a == p.present) for a, p in zip(answers, self.polls, strict=True)],
                "said_yes": answers,
                "present": [int(p.present) for p in self.polls],
                "category": [p.category for p in self.polls],
                "picture": [str(p.picture) for p in self.polls],
            }
        )

    @staticmethod
    def scores(after: Items, before: Items | None) -> list[Score]:
        """Accuracy over all questions, then by category; questions about one scene are resampled together."""
        return by_kind(
            after, before, group="hallucination", name="POPE-style accuracy", key="accuracy", by="category",
            kinds=pope.CATEGORIES, groups=np.asarray(after["picture"]), items="questions", unit="%",
        )  # fmt: skip


def _question(example: Example, colour: str, shape: str) -> Example:
    """The scene with one question and no answer."""
    return Example(
        example.name, example.image, turns=(Turn("user", f"is there {with_article(f'{colour} {shape}')} ?"),)
    )


def _classes(source: Scenes, i: int) -> list[tuple[str, str]]:
    """(colour, shape) of every object of scene i."""
    return [(o.colour, o.shape) for o in source.scene(i).objects]
