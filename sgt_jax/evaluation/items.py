"""Results per item in the work directory of a run: one JSON file per step and evaluator."""

import json
from typing import Any

from etils import epath

from sgt_jax.data.stored import atomic
from sgt_jax.evaluation.result import Result

FOLDER = "evaluations"


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
