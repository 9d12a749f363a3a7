"""What a benchmark of painted pictures is: its prompts, the tree that the official scorer reads, and how verdicts add up."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.evaluation.benchmarks.benchmark import Place
from sgt_jax.evaluation.benchmarks.items import Picture


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One thing to paint.

    Attributes:
      key: unique within the benchmark.
      text: the prompt or the instruction.
      row: what the official file says of it.
      picture: the picture to edit, or None.
      bad: why it cannot be painted, or "".
    """

    key: str
    text: str
    row: Mapping[str, Any]
    picture: Picture | None = None
    bad: str = ""


@dataclasses.dataclass(frozen=True)
class Unit:
    """One file of the tree: where it lies, and the numbers of the pictures that it is made of (four: a 2 x 2 grid)."""

    prompt: Prompt
    path: str
    numbers: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Generation:
    """A generation benchmark.

    Attributes:
      name, title, size, place: as in `benchmark.Understanding`.
      read: folder -> prompts. Raises DataError.
      mode: "t2i" or "edit".
      guidance: the reference's, where it differs from the family's defaults of the mode (fields that a family lacks are
        left out).
      samples: pictures of a prompt in the official protocol.
      grid: the samples stand in one file, as 2 x 2.
      path: (prompt, number of the sample, name of the model) -> the file below the folder of pictures.
      beside: (prompt, model) -> further files: path -> text, or the encoded picture.
      request: (prompt) -> what a judge is told of a picture beside its path.
      aggregate: (prompts, key -> verdicts of its pictures in order) -> scores. Raises DataError.
      answer: what a judge's line must hold, in words.
      paper: (name of a score, factor, what it is in words).
    """

    name: str
    title: str
    size: int
    place: Place
    read: Callable[[Path], list[Prompt]]
    mode: str
    guidance: Mapping[str, Any]
    samples: int
    path: Callable[[Prompt, int, str], str]
    aggregate: Callable[[Sequence[Prompt], Mapping[str, Sequence[Mapping[str, Any]]]], dict[str, float]]
    answer: str
    paper: tuple[str, float, str]
    grid: bool = False
    beside: Callable[[Prompt, str], dict[str, str | Picture]] = lambda prompt, model: {}
    request: Callable[[Prompt], dict[str, Any]] = lambda prompt: {}


def units(benchmark: Generation, prompts: Sequence[Prompt], samples: int, model: str) -> list[Unit]:
    """All files of the tree, in order; the picture with the number n gets the seed `seed + n`."""
    out = []
    for i, prompt in enumerate(prompts):
        numbers = [i * samples + k for k in range(samples)]
        if benchmark.grid:
            out.append(Unit(prompt, benchmark.path(prompt, 0, model), tuple(numbers)))
        else:
            out += [Unit(prompt, benchmark.path(prompt, k, model), (number,)) for k, number in enumerate(numbers)]
    return out
