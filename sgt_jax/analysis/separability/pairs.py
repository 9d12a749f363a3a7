"""What every analysis reads: pictures of two classes, questions with answers, and batches of equal shape for a model.

By default all of it comes from procedural scenes, so that each analysis runs on any checkpoint with no download.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.data.pictures import reading
from sgt_jax.data.sources import open_source
from sgt_jax.data.sources.reading import files
from sgt_jax.data.sources.scenes.world import SceneObject
from sgt_jax.errors import DataError

AFTER, BEFORE = "checkpoint", "before"  # the model that is looked at, and the one that it is compared with
HELD_OUT: Mapping[str, Any] = {"type": "scenes", "split": "test", "num": 100_000}


class Side(NamedTuple):
    """One class of a pair of scenes: what its scenes are drawn with, and which of them belong to it."""

    options: Mapping[str, Any] = {}
    fits: Callable[[SceneObject], bool] = lambda o: o.pattern == "plain"


def _shape(name: str) -> Side:
    return Side({"shapes": [name]})


# Pairs of one-object scenes that differ in one thing: name -> (options of both, either class). From what a plain model sees
# (where it is, how large) to what takes a fine eye.
SCENE_PAIRS: Mapping[str, tuple[Mapping[str, Any], Side, Side]] = {
    "left or right": ({"colours": ["red"]}, Side(fits=lambda o: o.x < 0.45), Side(fits=lambda o: o.x > 0.55)),
    "small or large": (
        {"colours": ["yellow"]}, Side(fits=lambda o: o.size == "small"), Side(fits=lambda o: o.size == "large"),
    ),
    "circle or square": ({"colours": ["green"]}, _shape("circle"), _shape("square")),
    "square or diamond": ({"colours": ["blue"]}, _shape("square"), _shape("diamond")),
    "striped or dotted": (
        {"colours": ["purple"], "shapes": ["square"], "pattern_rate": 1.0},
        Side(fits=lambda o: o.pattern == "striped"), Side(fits=lambda o: o.pattern == "dotted"),
    ),
}  # fmt: skip


class Pair(NamedTuple):
    """Pictures of two classes: uint8 [H, W, 3] each, of any sizes, and labels int [n], 0 or 1."""

    name: str
    classes: tuple[str, str]
    pictures: list[np.ndarray]
    labels: np.ndarray


def scene_pairs(n: int, options: Mapping[str, Any] | None = None) -> list[Pair]:
    """Pairs of classes of procedural scenes, `n` pictures a class, one object in each.

    What is not in a pair's name (background, place, size and so on) is drawn independently of the class, and no two
    pictures share it: a probe that remembered backgrounds would gain nothing. `options` are further options of the scenes.

    Raises:
      DataError: `options` leave too few scenes of a class.
    """
    found = []
    for name, (common, *sides) in SCENE_PAIRS.items():
        classes = tuple(name.split(" or "))
        pictures = []
        for number, side in enumerate(sides):
            merged = {**HELD_OUT, **(options or {}), "pattern_rate": 0.0, "edits": (), **common, **side.options}
            source = open_source(merged | {"min_objects": 1, "max_objects": 1, "turns": 0})
            rendered = (source.render(i) for i in range(number * (len(source) // 2), len(source)))
            taken = list(itertools.islice((image for scene, image, _ in rendered if side.fits(scene.objects[0])), n))
            if len(taken) < n:
                raise DataError(f"{source!r}: has {len(taken)} of '{classes[number]}' where {n} are wanted; lower --n")
            pictures.append(taken)
        found.append(_pair(name, classes, pictures))
    return found


def folder_pair(first: str | Path, second: str | Path, n: int) -> Pair:
    """The first `n` pictures (by name) below each of two folders.

    Raises:
      DataError: no such folder, no picture in it, or one that cannot be read.
    """
    pictures = []
    for folder in (Path(first), Path(second)):
        names = files.files_below(files.local_folder(folder, "give two folders of pictures"), files.PHOTO_SUFFIXES)
        if not names:
            raise DataError(f"{folder}: holds no pictures ({', '.join(files.PHOTO_SUFFIXES)}); check the path")
        pictures.append([reading.load_rgb(folder / name) for name in names[:n]])
    classes = (Path(first).name, Path(second).name)
    return _pair(" or ".join(classes), classes, pictures)


def class_pair(source: Any, classes: tuple[str, str], n: int) -> Pair:
    """`n` pictures of a source for each of two class names; pictures that hold both or neither are passed over.

    Raises:
      DataError: the source has too few of a class, or knows no classes.
    """
    pictures: dict[str, list[np.ndarray]] = {name: [] for name in classes}
    for i in range(len(source)):
        example = source[i]
        here = set(example.classes or ()) & set(classes)
        if len(here) == 1 and len(pictures[name := here.pop()]) < n:
            pictures[name].append(example.image)
        if all(len(taken) == n for taken in pictures.values()):
            return _pair(" or ".join(classes), classes, list(pictures.values()))
    counts = ", ".join(f"{len(taken)} of '{name}'" for name, taken in pictures.items())
    raise DataError(f"{source!r}: has {counts} where {n} are wanted; lower --n, or check the names of the classes")


def _pair(name: str, classes: tuple[str, str], pictures: Sequence[Sequence[np.ndarray]]) -> Pair:
    labels = np.repeat([0, 1], [len(taken) for taken in pictures])
    return Pair(name, classes, [*pictures[0], *pictures[1]], labels)


# -- Questions ---------------------------------------------------------------------------------------------------------


# -- Batches -----------------------------------------------------------------------------------------------------------
