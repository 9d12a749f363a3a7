"""Edits of procedural scenes: one object is recoloured, reshaped or removed, and everything else stays as it is."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sgt_jax.data.sources.scenes.phrases import with_article

if TYPE_CHECKING:
    from sgt_jax.data.sources.scenes.world import Scene, SceneObject

EDITS = ("colour", "shape", "remove")


class Change(NamedTuple):
    """One edit.

    Attributes:
      kind: one of EDITS, or "copy".
      request: the words that ask for it, all of the nano vocabulary.
      number: which object of the scene it is about; -1: none.
      replacement: {number: the object as it will look, or None if it goes}.
    """

    kind: str
    request: str
    number: int
    replacement: Mapping[int, "SceneObject | None"]


COPY = Change("copy", "copy the picture", -1, {})


def choose(scene: "Scene", rng: np.random.Generator, kinds: Sequence[str] = EDITS) -> Change | None:
    """A random edit of a random object that its colour and shape name; None if none of the kinds fits the scene.

    A new colour is one that nothing in the scene has (two neighbours of one colour would melt), and the only object is not
    removed.
    """
    looks = [(o.colour, o.shape) for o in scene.objects]
    named = [n for n, look in enumerate(looks) if looks.count(look) == 1]
    fitting = [kind for kind in kinds if kind != "remove" or len(looks) > 1]
    if not named or not fitting:
        return None
    number = named[int(rng.random() * len(named))]
    kind = fitting[int(rng.random() * len(fitting))]
    o = scene.objects[number]
    name = f"the {o.colour} {o.shape}"
    if kind == "remove":
        return Change(kind, f"remove {name}", number, {number: None})
    if kind == "colour":
        free = [c for c in scene.colours if all(c != p.colour for p in scene.objects)]
    else:
        free = [s for s in scene.shapes if s != o.shape and (o.colour, s) not in looks]
    if not free:
        return None
    new = free[int(rng.random() * len(free))]
    request = f"paint {name} {new}" if kind == "colour" else f"draw {with_article(new)} where {name} is"
    return Change(kind, request, number, {number: dataclasses.replace(o, **{kind: new})})
