"""Reads the metrics file of a run: scalars by step, and what of the mixture was realised."""

import json
import math
from typing import Any

from etils import epath

from sgt_jax.errors import DataError

METRICS = "metrics.jsonl"


def read_metrics(workdir: epath.PathLike, kind: str | None = None) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, of one kind if given; none without the file, nor a torn last line."""
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


def realised(folder: epath.Path, upto: float = math.inf) -> dict[str, int]:
    """Samples of each component that a run trained on up to a step, from its log (which a resumed run continues)."""
    from sgt_jax.reporting.metrics import read_metrics

    total: dict[str, float] = {}
    last = 0
    for line in read_metrics(folder, kind="train"):
        if line["step"] > upto:
            break
        for name, value in line.items():
            if name.startswith("samples/"):
                total[name.removeprefix("samples/")] = total.get(name.removeprefix("samples/"), 0) + value * (
                    line["step"] - last
                )
        last = line["step"]
    return {name: round(value) for name, value in sorted(total.items())}


def steps_of_labels(folder: epath.Path, upto: int) -> float:
    """Steps up to one, each counted by how full its labels were."""
    from sgt_jax.reporting.metrics import read_metrics

    total, last = 0.0, 0
    for line in read_metrics(folder, kind="train"):
        if line["step"] > upto:
            break
        total += line.get("fill/labels", 0.0) * (line["step"] - last)
        last = line["step"]
    return total
