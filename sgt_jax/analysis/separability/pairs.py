"""What every analysis reads: pictures of two classes, questions with answers, and batches of equal shape for a model.

By default all of it comes from procedural scenes, so that each analysis runs on any checkpoint with no download.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.batch import PackedBatch
from sgt_jax.data import tasks
from sgt_jax.data.examples import Example, PlanItem
from sgt_jax.data.layouts.bagel import BagelLayout
from sgt_jax.data.pictures import resizing
from sgt_jax.data.sources import open_source
from sgt_jax.data.sources.reading import files
from sgt_jax.data.sources.scenes.captions import plural
from sgt_jax.data.sources.scenes.drawing import COLOURS, SHAPES
from sgt_jax.data.sources.scenes.source import SceneObject
from sgt_jax.errors import DataError
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models.bagel.sampling import lane_budgets, stack_samples

Plan = Sequence[PlanItem]
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
        pictures.append([resizing.load_rgb(folder / name) for name in names[:n]])
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


# -- Batches -----------------------------------------------------------------------------------------------------------


def vit_size(model: Assistant) -> tasks.VitSize:
    """The rule by which this checkpoint resizes a picture that it is asked about."""
    stride, most = model.config.vit.patch_size, model.config.vit_max_num_patch_per_side
    low, high = (min(side, most * stride) for side in model.defaults["chat"].vit)
    return tasks.VitSize(stride, low, high)


def canvas(model: Assistant) -> tuple[int, int]:
    """The square canvas (height, width) that analyses paint on: 512 pixels a side, or all that the model has."""
    side = min(512 // model.config.latent_stride, model.config.max_latent_size) * model.config.latent_stride
    return side, side


def batches(plans: Sequence[Plan], layout: BagelLayout, rows: int) -> Iterator[tuple[PackedBatch, int]]:
    """Plans as batches of `rows` rows, one plan a row, all of one shape; with each, how many of its rows are real."""
    laid = [layout.lay_out(tuple(plan)) for plan in plans]
    budgets = lane_budgets(laid, layout)
    for start in range(0, len(laid), rows):
        part = laid[start : start + rows]
        yield stack_samples([*part, *[{}] * (rows - len(part))], layout, budgets), len(part)
