"""GenEval's six kinds of prompts, about the shapes and colours of procedural scenes.

The rules are in `evaluation/rules/geneval.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures.resizing import to_canvas
from sgt_jax.data.sources.scenes.phrases import RELATIONS, noun_phrase
from sgt_jax.evaluation.result import Items, Result, Title, by_kind
from sgt_jax.evaluation.rules import geneval
from sgt_jax.evaluation.rules.geneval import TAGS
from sgt_jax.evaluation.scenes import oracle, scenes_of
from sgt_jax.evaluation.statistics import Score
from sgt_jax.evaluation.subject import Params, Subject, paint_each


class Prompts:
    """Pictures drawn for GenEval's six kinds of prompts, judged by its rules.

    Options:
      source: scenes whose shapes and colours are asked for.
      n: prompts of each tag.
      max_count: largest number of things in a counting prompt.
      show: pictures in the report.
      seed, steps, shift, text_scale, batch: of the prompts and of the sampler; picture i has the seed seed + i.
    """

    TITLE = Title("Pictures drawn for GenEval-style prompts", "Each prompt and what was drawn for it.")

    COLUMNS = ("drawn",)

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        self._subject, self._options = subject, options
        self._source = scenes_of(subject, options["source"])
        shapes, colours = self._source.shapes, self._source.colours
        self.prompts = prompts(options["n"], shapes, colours, options["max_count"], options["seed"])
        task = subject.task({"task": "text_to_image"})
        self._plans = [task.condition(Example(entry["tag"], caption=entry["prompt"])) for entry in self.prompts]

    def __call__(self, params: Params) -> Result:
        shape = to_canvas(self._source[0].image, self._subject.canvases).shape[:2]
        drawn = paint_each(self._subject, params, self._plans, shape, self._options)
        parsed = [oracle.parse(picture, self._source.colours, self._source.shapes) for picture in drawn]
        verdicts = [geneval.judge(entry, things) for entry, things in zip(self.prompts, parsed, strict=True)]
        show = range(min(self._options["show"], len(drawn)))
        return Result(
            {
                "accuracy": [int(v.correct) for v in verdicts],
                "tag": [entry["tag"] for entry in self.prompts],
                "reason": [v.reason for v in verdicts],
                "prompt": [entry["prompt"] for entry in self.prompts],
            },
            self.COLUMNS,
            [[drawn[i]] for i in show],
            [self.prompts[i]["prompt"] for i in show],
            painted=(0,),
        )

    @staticmethod
    def scores(after: Items, before: Items | None) -> list[Score]:
        """Accuracy over all prompts, then by tag."""
        return by_kind(
            after, before, group="text to picture", name="GenEval-style accuracy", key="accuracy", by="tag",
            kinds=[*dict.fromkeys(after["tag"])], items="prompts", unit="%",
        )  # fmt: skip


def prompts(
    n: int, shapes: Sequence[str], colours: Sequence[str], max_count: int = 4, seed: int = 0
) -> list[dict[str, Any]]:
    """Metadata of `n` prompts of each tag, all tags in turn; a pure function of the arguments."""
    rng = np.random.default_rng((4, seed))

    def some(options: Sequence[str], k: int) -> list[str]:
        return [options[i] for i in rng.choice(len(options), k, replace=False)]

    entries = []
    for number in range(n):
        # Shapes take turns, so that every tag asks for each about equally often.
        first = shapes[number % len(shapes)]
        second = some([s for s in shapes if s != first], 1)[0]
        hues = some(colours, 2)
        for tag in TAGS:
            if tag == "single_object":
                include = [{"class": first, "count": 1}]
            elif tag == "two_object":
                include = [{"class": first, "count": 1}, {"class": second, "count": 1}]
            elif tag == "counting":
                include = [{"class": first, "count": int(rng.integers(2, max_count + 1))}]
            elif tag == "colors":
                include = [{"class": first, "count": 1, "color": hues[0]}]
            elif tag == "position":
                relation = RELATIONS[int(rng.integers(len(RELATIONS)))]
                include = [{"class": second, "count": 1}, {"class": first, "count": 1, "position": [relation, 0]}]
            else:
                include = [{"class": s, "count": 1, "color": c} for s, c in zip((first, second), hues, strict=True)]
            entry = {"tag": tag, "include": include, "prompt": wording(include)}
            if tag == "counting":
                entry["exclude"] = [{"class": first, "count": include[0]["count"] + 1}]
            entries.append(entry)
    return entries


def wording(include: Sequence[Mapping[str, Any]]) -> str:
    """The prompt of an `include` list, in the grammar of the scenes' captions."""
    phrases = [noun_phrase(part["count"], part.get("color"), part["class"]) for part in include]
    positioned = [
        (part["position"], phrase) for part, phrase in zip(include, phrases, strict=True) if "position" in part
    ]
    if not positioned:
        return " and ".join(phrases)
    ((relation, other), phrase), *_ = positioned
    return f"{phrase} {relation} {phrases[other]}"
