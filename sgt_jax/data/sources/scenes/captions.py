"""What can be said and asked about a scene: captions and unambiguous questions in about a hundred words.

Everything is lower-case words and '?', separated by single blanks. Answers are one word. A question is asked
only if the picture settles it: objects are called by a colour or shape that only they have, and relations
need a margin.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sgt_jax.data.sources.scenes.drawing import SHAPES

if TYPE_CHECKING:
    from sgt_jax.data.sources.scenes.world import Scene

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
RELATIONS = ("left of", "right of", "above", "below")
PLURALS = {"cross": "crosses"}
MARGIN = 0.12  # of the side: the least distance along an axis for a relation to be asked about


def plural(shape: str) -> str:
    return PLURALS.get(shape, shape + "s")


def with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _pick(rng: np.random.Generator, options: Sequence):
    """One of the options, or None if there is none. (`rng.choice` is many times slower on short lists.)"""
    return options[int(rng.random() * len(options))] if options else None


class Caption(NamedTuple):
    """What a caption asks for: groups of equal objects, and how the first group stands to the second."""

    groups: tuple[tuple[int, str | None, str], ...]  # (count, colour, shape); no colour: any will do
    relation: str | None = None


def caption(scene: "Scene", rng: np.random.Generator, colourless: float = 0.0) -> str:
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
        link = _pick(rng, holding_relations(a.x, a.y, b.x, b.y)) or "and"
    return f" {link} ".join(words[:2]) + "".join(f" and {w}" for w in words[2:])


def noun_phrase(count: int, colour: str | None, shape: str) -> str:
    """'a red circle', 'two red circles', and without a colour 'two circles'."""
    hue = f"{colour} " if colour else ""
    return with_article(hue + shape) if count == 1 else f"{NUMBERS[count]} {hue}{plural(shape)}"


def holding_relations(ax: float, ay: float, bx: float, by: float, margin: float = MARGIN) -> list[str]:
    """Which of RELATIONS hold between a and b by at least `margin`; everything in fractions of the side."""
    truths = (bx - ax >= margin, ax - bx >= margin, by - ay >= margin, ay - by >= margin)
    return [relation for relation, true in zip(RELATIONS, truths, strict=True) if true]


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
