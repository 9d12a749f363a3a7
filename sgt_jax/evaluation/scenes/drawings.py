"""Pictures drawn from captions of procedural scenes, judged by the exact oracle."""

from collections.abc import Mapping
from typing import Any

from sgt_jax.data.pictures.resizing import to_canvas
from sgt_jax.errors import DataError
from sgt_jax.evaluation.result import Items, Result, Title
from sgt_jax.evaluation.scenes import oracle
from sgt_jax.evaluation.statistics import Score, compare
from sgt_jax.evaluation.subject import Params, Subject, paint_each


class Drawings:
    """Pictures drawn from captions, parsed by the exact oracle of the procedural scenes.

    Options:
      source, n: whose first n captions are drawn.
      show: pictures in the report.
      seed, steps, shift, text_scale, batch: of the sampler; picture i has the seed seed + i.
    """

    TITLE = Title("Pictures drawn from captions", "Held-out captions; the right column is one scene of that caption.")

    COLUMNS = ("drawn", "a scene of this caption")

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        self._subject, self._options = subject, options
        source = subject.source(options["source"])
        self._examples = [source[i] for i in range(min(options["n"], len(source)))]
        if any("scene" not in example.extra for example in self._examples):
            raise DataError(f"{source!r} has no scene descriptions, which this evaluator's oracle needs")
        task = subject.task({"task": "text_to_image"})
        self._plans = [task.condition(example) for example in self._examples]

    def __call__(self, params: Params) -> Result:
        shape = to_canvas(self._examples[0].image, self._subject.canvases).shape[:2]
        drawn = paint_each(self._subject, params, self._plans, shape, self._options)
        items: dict[str, list] = {}
        for example, picture in zip(self._examples, drawn):
            verdict = oracle.score_picture(example.extra["scene"], example.caption, picture)
            for name, right in verdict.items():
                items.setdefault(name, []).append(None if right is None else int(right))
        items["prompt"] = [example.caption for example in self._examples]
        show = range(min(self._options["show"], len(drawn)))
        rows = [[drawn[i], self._examples[i].image] for i in show]
        captions = [self._examples[i].caption for i in show]
        return Result(items, self.COLUMNS, rows, captions, painted=(0,))

    @staticmethod
    def scores(after: Items, before: Items | None) -> list[Score]:
        """Every verdict of the oracle, each over the captions that ask for it."""
        scores = []
        for key, values in after.items():
            if key == "prompt":
                continue
            # A verdict is None where the caption does not ask for it (a relation where it names one object).
            pick = [i for i, value in enumerate(values) if value is not None]
            if not pick:
                continue
            previous = [before[key][i] for i in pick] if before else None
            scores.append(compare("generation", key.replace("_", " "), [values[i] for i in pick], before=previous,
                                  items="held-out captions", unit="%"))  # fmt: skip
        return scores
