"""Captions of procedural scenes: one sentence to draw a scene from, and the inverse.

Everything in the scene language is lower-case words and '?', separated by single blanks, about a hundred words in all.
"""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from sgt_jax.data.sources.scenes.drawing import SHAPES
from sgt_jax.data.sources.scenes.phrases import NUMBERS, holding_relations, noun_phrase, pick, plural
from sgt_jax.data.sources.scenes.world import Scene


class Caption(NamedTuple):
    """What a caption asks for: groups of equal objects, and how the first group stands to the second."""

    groups: tuple[tuple[int, str | None, str], ...]  # (count, colour, shape); no colour: any will do
    relation: str | None = None


def caption(scene: Scene, rng: np.random.Generator, colourless: float = 0.0) -> str:
    """One sentence to draw the scene from, such as 'a red circle left of a blue square'.

    `colourless` is the chance of one that names shapes alone, such as 'two circles and a square'.
    """
    bare = bool(colourless) and rng.random() < colourless

    def key_of(o):
        return (None if bare else o.colour, o.shape)

    groups = list(Counter(key_of(o) for o in scene.objects).items())
    groups = [groups[k] for k in rng.permutation(len(groups))]
    words = [noun_phrase(n, colour, shape) for (colour, shape), n in groups]
    link = "and"
    if len(groups) > 1 and groups[0][1] == groups[1][1] == 1 and rng.random() < 0.75:
        a, b = (next(o for o in scene.objects if key_of(o) == key) for key, _ in groups[:2])
        link = pick(rng, holding_relations(a.x, a.y, b.x, b.y)) or "and"
    return f" {link} ".join(words[:2]) + "".join(f" and {w}" for w in words[2:])


def parse_caption(text: str) -> Caption:
    """The inverse of `caption`; ValueError for any other sentence."""
    pieces = re.split(r" (and|left of|right of|above|below) ", text.strip())
    singular = {plural(s): s for s in SHAPES}
    groups = []
    for piece in pieces[::2]:
        words = piece.split(" ")
        if len(words) not in (2, 3):
            raise ValueError(f"not a scene caption: {text!r}")
        number, colour, shape = words[0], words[1] if len(words) == 3 else None, words[-1]
        count = 1 if number in ("a", "an") else NUMBERS.index(number) if number in NUMBERS else 0
        shape = singular.get(shape, shape)
        if not count or shape not in singular.values():
            raise ValueError(f"not a scene caption: {text!r}")
        groups.append((count, colour, shape))
    links = pieces[1::2]
    return Caption(tuple(groups), links[0] if links and links[0] != "and" else None)
