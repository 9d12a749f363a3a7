"""Edited pictures of procedural scenes: did what was asked for change, and did everything else stay?"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.data.pictures.resizing import to_canvas
from sgt_jax.data.sources.scenes.edits import Change
from sgt_jax.data.sources.scenes.world import Scene
from sgt_jax.errors import DataError
from sgt_jax.evaluation.result import Items, Result, Title, by_kind
from sgt_jax.evaluation.rules.geneval import Thing
from sgt_jax.evaluation.scenes import oracle, scenes_of
from sgt_jax.evaluation.statistics import Score, compare
from sgt_jax.evaluation.subject import Params, Subject, paint_each

NEAR = 0.12  # of the side: an object may have moved so far and still be the same one


class Edits:
    """Pictures edited on request: one object changes, the rest stays.

    Options:
      source, n: scenes with edits; the first n that change anything are asked for.
      see: whether the understanding encoder sees the picture, too.
      show: pictures in the report.
      seed, steps, shift, text_scale, batch: of the sampler; picture i has the seed seed + i.
    """

    TITLE = Title("Pictures edited on request", "One object changes, everything else should stay as it is.")

    COLUMNS = ("picture", "edited", "should be")

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        self._subject, self._options = subject, options
        source = scenes_of(subject, options["source"])
        if not source.edits:
            raise DataError(f"{source!r} has no edits; set `edits` in config.data.sources.{options['source']}")
        changing = (e for i in range(len(source)) if (e := source[i]).edit.extra["change"].kind != "copy")
        self._examples = list(itertools.islice(changing, options["n"]))
        task = subject.task({"task": "editing", "see": options["see"]})
        self._plans = [task.condition(example) for example in self._examples]

    def __call__(self, params: Params) -> Result:
        shape = to_canvas(self._examples[0].image, self._subject.canvases).shape[:2]
        drawn = paint_each(self._subject, params, self._plans, shape, self._options)
        items: dict[str, list] = {}
        for example, picture in zip(self._examples, drawn, strict=True):
            edit = example.edit.extra
            verdict = judge_edit(example.extra["scene"], edit["change"], edit["scene"], picture)
            for name, right in verdict.items():
                items.setdefault(name, []).append(int(right))
        items["kind"] = [e.edit.extra["change"].kind for e in self._examples]
        items["request"] = [e.edit.request for e in self._examples]
        show = range(min(self._options["show"], len(drawn)))
        rows = [[self._examples[i].image, drawn[i], self._examples[i].edit.target] for i in show]
        requests = [items["request"][i] for i in show]
        return Result(items, self.COLUMNS, rows, requests, painted=(1,))

    @staticmethod
    def scores(after: Items, before: Items | None) -> list[Score]:
        """Exact edits over all and by kind, then its two halves."""
        words = {"items": "held-out edits", "unit": "%"}
        exact = by_kind(
            after, before, group="editing", name="edit exact", key="exact", by="kind",
            kinds=[*dict.fromkeys(after["kind"])], **words,
        )  # fmt: skip
        halves = {"changed": "what was asked for changed", "kept": "the rest stayed"}
        return exact + [
            compare("editing", label, after[key], before=before and before[key], **words)
            for key, label in halves.items()
        ]


def judge_edit(before: Scene, change: Change, after: Scene, picture: np.ndarray | Sequence[Thing]) -> dict[str, bool]:
    """Compares a picture with the scene that it should show.

    Args:
      before, change, after: the scene, the edit (not a copy) and the scene after it.
      picture: uint8 [S, S, 3], or what `oracle.parse` made of it.

    Returns:
      changed: where the object was, there is now one of the wanted colour and shape, or none if it was to go.
      kept: every other object is still there, at its place, in colour and shape, and there is nothing new.
      exact: both.
    """
    if isinstance(picture, np.ndarray):
        rotations = sorted({0.0, *(o.rotation for o in before.objects)})
        picture = oracle.parse(picture, before.colours, before.shapes, rotations)
    old = before.objects[change.number]
    new = change.replacement[change.number]
    left = list(picture)

    def take(colour: str, shape: str, x: float, y: float) -> bool:
        """Whether such a thing is there; it is then used up."""
        near = [t for t in left if (t.colour, t.shape) == (colour, shape) and np.hypot(t.x - x, t.y - y) <= NEAR]
        if near:
            left.remove(min(near, key=lambda t: np.hypot(t.x - x, t.y - y)))
        return bool(near)

    others = [o for n, o in enumerate(before.objects) if n != change.number]
    kept = all([take(o.colour, o.shape, o.x, o.y) for o in others])
    if new is None:
        changed = not any(np.hypot(t.x - old.x, t.y - old.y) <= NEAR for t in left)
    else:
        changed = take(new.colour, new.shape, new.x, new.y)
    # What is left over is new, or the object itself in a wrong form, which is no fault of the rest.
    strange = [t for t in left if np.hypot(t.x - old.x, t.y - old.y) > NEAR]
    kept = kept and not strange
    return {"changed": changed, "kept": kept, "exact": changed and kept and len(picture) == len(after.objects)}
