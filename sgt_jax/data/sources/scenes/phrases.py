"""Phrases of the scene language: names with articles and numbers, and which relations hold between two objects."""

from collections.abc import Sequence

import numpy as np

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")


RELATIONS = ("left of", "right of", "above", "below")


PLURALS = {"cross": "crosses"}


MARGIN = 0.12  # of the side: the least distance along an axis for a relation to be asked about


def plural(shape: str) -> str:
    return PLURALS.get(shape, shape + "s")


def with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def pick(rng: np.random.Generator, options: Sequence):
    """One of the options, or None if there is none. (`rng.choice` is many times slower on short lists.)"""
    return options[int(rng.random() * len(options))] if options else None


def noun_phrase(count: int, colour: str | None, shape: str) -> str:
    """'a red circle', 'two red circles', and without a colour 'two circles'."""
    hue = f"{colour} " if colour else ""
    return with_article(hue + shape) if count == 1 else f"{NUMBERS[count]} {hue}{plural(shape)}"


def holding_relations(ax: float, ay: float, bx: float, by: float, margin: float = MARGIN) -> list[str]:
    """Which of RELATIONS hold between a and b by at least `margin`; everything in fractions of the side."""
    truths = (bx - ax >= margin, ax - bx >= margin, by - ay >= margin, ay - by >= margin)
    return [relation for relation, true in zip(RELATIONS, truths, strict=True) if true]
