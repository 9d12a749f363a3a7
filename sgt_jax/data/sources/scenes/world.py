"""What a procedural scene is: objects with shape, colour, size, place and depth; no pixels."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """One object; lengths are fractions of the picture side, (x, y) is its centre, y grows downwards."""

    shape: str
    colour: str
    size: str  # a key of the source's `sizes`: "small" or "large"
    pattern: str
    x: float
    y: float
    radius: float
    rotation: float  # degrees
    depth: float  # larger is farther
    area: int = 0  # pixels if nothing hid it
    visible: int = 0  # pixels seen


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a picture shows, objects from the farthest to the nearest, and the choices it was drawn from."""

    size: int  # pixels per side
    objects: tuple[SceneObject, ...]
    covers: tuple[tuple[int, int], ...]  # (nearer, farther) pairs of object numbers whose overlap can be seen
    shapes: tuple[str, ...]
    colours: tuple[str, ...]


def ranked_classes(shapes: Sequence[str], colours: Sequence[str]) -> list[tuple[str, str]]:
    """Every (colour, shape), the commonest first where a world is uneven; each goes with the next one in the circle.

    The order is fixed and arbitrary, so that neither colour nor shape alone tells how common a thing is.
    """
    classes = [(colour, shape) for shape in shapes for colour in colours]
    return [classes[k] for k in np.random.default_rng(2024).permutation(len(classes))]
