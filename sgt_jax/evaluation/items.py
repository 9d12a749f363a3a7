"""Results per item in the work directory of a run: one JSON file per step and evaluator, and the first pictures."""

import io
import json
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from sgt_jax.data.stored import atomic
from sgt_jax.evaluation.result import Result

FOLDER = "evaluations"
FIRST = "pictures/first"  # what the model painted at the first evaluation, a PNG a picture


def save_items(workdir: epath.Path, step: int, name: str, result: Result) -> None:
    """Writes the per-item results of one evaluator at one step."""
    folder = workdir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(folder / f"{step:07d}_{name}.json", json.dumps(result.items))


def load_items(workdir: epath.PathLike, step: int, name: str) -> dict[str, Any] | None:
    """What `save_items` wrote, or None."""
    path = epath.Path(workdir) / FOLDER / f"{step:07d}_{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def evaluated_steps(workdir: epath.PathLike) -> list[int]:
    """The steps at which a run was evaluated, in order."""
    folder = epath.Path(workdir) / FOLDER
    names = [p.name.split("_")[0] for p in folder.iterdir()] if folder.is_dir() else []
    return sorted({int(name) for name in names if name.isdigit()})


def save_first_pictures(workdir: epath.Path, step: int, name: str, result: Result) -> None:
    """Keeps what the model painted, if this is the first evaluation, so that a report can show it beside the last."""
    if result.painted and all(other >= step for other in evaluated_steps(workdir)):
        (workdir / FIRST).mkdir(parents=True, exist_ok=True)
        for number, row in enumerate(result.rows):
            for column in result.painted:
                encoded = io.BytesIO()
                Image.fromarray(np.asarray(row[column])).save(encoded, format="PNG", optimize=True)
                atomic.write_bytes(workdir / first_picture(name, number, column), encoded.getvalue())


def first_picture(name: str, row: int, column: int) -> str:
    """The path, in the work directory, of what an evaluator's grid showed there at the first evaluation."""
    return f"{FIRST}/{name}_{row:02d}_{column}.png"
