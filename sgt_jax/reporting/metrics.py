"""Reads the metrics file of a run: its lines, and what the run had trained on up to a step."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from etils import epath

from sgt_jax.errors import DataError

METRICS = "metrics.jsonl"


def read_metrics(workdir: epath.PathLike, kind: str | None = None) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, of one kind if given. Without the file there are none; a torn last line is left out.

    Raises:
      DataError: a line before the last is not JSON; the message names it.
    """
    path = epath.Path(workdir) / METRICS
    if not path.exists():
        return []
    texts = path.read_text().splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number < len(texts):
                raise DataError(f"{path}: line {number} is not JSON: {error}") from error
    return [line for line in lines if kind is None or line["kind"] == kind]


def realised_samples(workdir: epath.PathLike, upto: float = math.inf) -> dict[str, int]:
    """Samples of each component that a run trained on up to a step, by its log (which a resumed run continues)."""
    total: defaultdict[str, float] = defaultdict(float)
    for line, steps in _train_lines(workdir, upto):
        for name, per_step in line.items():
            if name.startswith("samples/"):
                total[name.removeprefix("samples/")] += per_step * steps
    return {name: round(count) for name, count in sorted(total.items())}


def label_steps(workdir: epath.PathLike, upto: float) -> float:
    """Steps up to one, each counted by the filled share of its label slots: times the slots, that is labels trained on."""
    return sum((line.get("fill/labels", 0.0) * steps for line, steps in _train_lines(workdir, upto)), 0.0)


def _train_lines(workdir: epath.PathLike, upto: float) -> Iterator[tuple[dict[str, Any], int]]:
    """The training lines up to a step, and how many steps each speaks for: those since the line before."""
    last = 0
    for line in read_metrics(workdir, kind="train"):
        if line["step"] > upto:
            return
        yield line, line["step"] - last
        last = line["step"]
