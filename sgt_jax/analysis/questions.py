"""Questions about procedural scenes, with the objects that each asks about, for the analyses of answering."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.data.examples import Example
from sgt_jax.data.sources.scenes.drawing import COLOURS, SHAPES
from sgt_jax.data.sources.scenes.phrases import plural
from sgt_jax.errors import DataError


class Question(NamedTuple):
    """One question about one or more pictures.

    Attributes:
      example: with its conversation cut after the first answer.
      asked: bool [H, W], the pixels of the objects that the question is about; None where nobody knows.
    """

    example: Example
    asked: np.ndarray | None


def questions(source: Any, n: int) -> list[Question]:
    """The first question of each of the first `n` pictures that come with one.

    Raises:
      DataError: the source has none.
    """
    found = []
    for i in range(len(source)):
        example = source[i]
        end = next((k for k, turn in enumerate(example.turns) if turn.role == "assistant"), None)
        if end is None or example.image is None:
            continue
        example.turns = example.turns[: end + 1]
        words = " ".join(turn.text for turn in example.turns[:-1])
        found.append(Question(example, None if example.images[1:] else asked_about(example, words)))
        if len(found) == n:
            break
    if not found:
        raise DataError(f"{source!r}: holds no picture with a question and its answer; give another --source")
    return found


def asked_about(example: Example, question: str) -> np.ndarray | None:
    """bool [H, W]: the union of the masks that a question names; None if it names none, or nothing has a mask.

    In scenes "the red object", "a red circle" and "the leftmost object" are followed to the objects they mean, and a
    phrase that fits several objects means all of them. Elsewhere a mask is named if its class is a word of the question.
    """
    if example.masks is None or not example.classes:
        return None
    scene = example.extra.get("scene")
    if scene is not None:
        chosen = _named_objects(scene.objects, question)
    else:
        words = f" {' '.join(re.findall(r'[a-z0-9]+', question.lower()))} "
        chosen = [k for k, name in enumerate(example.classes) if f" {name.lower()} " in words]
    return example.masks[chosen].any(0) if chosen else None


_FORMS = {form: shape for shape in SHAPES for form in (shape, plural(shape))}


_PHRASE = re.compile(rf"(?:({'|'.join(COLOURS)}) )?\b(objects?|{'|'.join(_FORMS)})\b")


_EXTREMES = {
    "leftmost": lambda o: o.x, "rightmost": lambda o: -o.x, "highest": lambda o: o.y, "lowest": lambda o: -o.y,
    "largest": lambda o: -o.area, "smallest": lambda o: o.area,
}  # fmt: skip


def _named_objects(objects: Sequence[Any], question: str) -> list[int]:
    """Numbers of the objects of a scene that a question names."""
    for word, key in _EXTREMES.items():
        if word in question:
            return [min(range(len(objects)), key=lambda k: key(objects[k]))]
    found: set[int] = set()
    for colour, noun in _PHRASE.findall(question):
        shape = _FORMS.get(noun)
        if colour or shape:
            fits = ((o.colour == colour or not colour) and (o.shape == shape or not shape) for o in objects)
            found |= {k for k, fit in enumerate(fits) if fit}
    return sorted(found)
