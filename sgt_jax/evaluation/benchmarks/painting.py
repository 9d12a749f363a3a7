"""Paints all pictures of a generation benchmark into the tree of its official scorer, file by file, and checks the tree."""

import dataclasses
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sgt_jax.data.pictures.reading import picture_size
from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks.items import Picture
from sgt_jax.evaluation.benchmarks.pictures import Generation, Prompt, Unit

FOLDER = "pictures"
Progress = Callable[[int, int], None]

# (texts and source pictures, seeds) of one size -> uint8 [N, H, W, 3]
Paint = Callable[[Sequence[list[Any]], Sequence[int]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Share:
    """Which part of the batches this process paints: number `index` of `count`."""

    index: int = 0
    count: int = 1


def groups(units: Sequence[Unit], batch: int, shape_of: Callable[[Prompt], tuple[int, ...]]) -> list[list[Unit]]:
    """Batches of units whose pictures have one size, cut from the list of all, so that a resume gives identical files."""
    by_shape: dict[tuple[int, ...], list[Unit]] = {}
    for unit in units:
        by_shape.setdefault(shape_of(unit.prompt), []).append(unit)
    out = []
    for mine in by_shape.values():
        each = max(1, batch // len(mine[0].numbers))
        out += [mine[i : i + each] for i in range(0, len(mine), each)]
    return out


def paint_all(
    benchmark: Generation, units: Sequence[Unit], out: Path, paint: Paint, *, seed: int, batch: int, model: str,
    shape_of: Callable[[Prompt], tuple[int, ...]], share: Share = Share(), progress: Progress = lambda done, total: None,
) -> dict[str, str]:  # fmt: skip
    """Paints what is not in the tree yet; returns key -> why it could not be painted.

    Args:
      paint: histories and seeds of one batch -> pictures.
      shape_of: prompt -> the size of its picture; prompts of one size share batches. Raises DataError.
    """
    bad = {unit.prompt.key: unit.prompt.bad for unit in units if unit.prompt.bad}
    good = []
    for unit in units:
        try:
            if unit.prompt.key not in bad:
                shape_of(unit.prompt)
                good.append(unit)
        except DataError as error:
            bad[unit.prompt.key] = str(error)
    for number, group in enumerate(groups(good, batch, shape_of)):
        if number % share.count != share.index:
            continue
        if all((out / FOLDER / unit.path).exists() for unit in group):
            continue
        _paint_group(benchmark, group, out, paint, seed, model, bad)
        progress(number + 1, -(-len(good) // max(1, batch)))
    return bad


def _paint_group(
    benchmark: Generation, group: Sequence[Unit], out: Path, paint: Paint, seed: int, model: str, bad: dict[str, str]
) -> None:
    histories, seeds, owners = [], [], []
    for unit in group:
        try:
            source = [unit.prompt.picture.decode()] if unit.prompt.picture is not None else []
        except DataError as error:
            bad[unit.prompt.key] = str(error)
            continue
        for number in unit.numbers:
            histories.append([*source, unit.prompt.text])
            seeds.append(seed + number)
            owners.append(unit)
    pictures = paint(histories, seeds) if histories else ()
    for unit in {owner.path: owner for owner in owners}.values():
        mine = [picture for picture, owner in zip(pictures, owners) if owner is unit]
        for path, content in benchmark.beside(unit.prompt, model).items():
            data = content.encode() if isinstance(content, str) else as_png(content)
            _write(out, path, data)
        _write(out, unit.path, encode(tiled(mine)))


def tiled(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """One picture as it is, four as a 2 x 2 grid in reading order."""
    if len(pictures) == 1:
        return pictures[0]
    top, bottom = np.concatenate(pictures[:2], 1), np.concatenate(pictures[2:4], 1)
    return np.concatenate([top, bottom], 0)


def encode(picture: np.ndarray) -> bytes:
    """uint8 [H, W, 3] as PNG."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def as_png(picture: Picture) -> bytes:
    """A source picture as PNG. Raises DataError."""
    return encode(picture.decode())


def _write(out: Path, relative: str, data: bytes) -> None:
    """Writes a file of the tree; what is half written lies outside it, because some scorers count every file."""
    path, beside = out / FOLDER / relative, out / f".half.{os.getpid()}"
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside.write_bytes(data)
    beside.replace(path)


@dataclasses.dataclass(frozen=True)
class Checked:
    """What a tree lacks and has too much."""

    expected: int
    missing: list[str]
    unreadable: list[str]
    unexpected: list[str]

    @property
    def ok(self) -> bool:
        """Whether the official scorer finds all that it wants, and nothing else."""
        return not (self.missing or self.unreadable or self.unexpected)


def check(benchmark: Generation, units: Sequence[Unit], out: Path, model: str) -> Checked:
    """Counts the files of a tree against the expected keys; every picture's header is read."""
    wanted = {unit.path for unit in units}
    for unit in units:
        wanted |= set(benchmark.beside(unit.prompt, model))
    root = out / FOLDER
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    unreadable = []
    for name in sorted(wanted & found):
        if name.endswith(".png"):
            try:
                picture_size((root / name).read_bytes(), name)
            except DataError:
                unreadable.append(name)
    return Checked(len(wanted), sorted(wanted - found), unreadable, sorted(found - wanted))
