"""The files of a study's results: what it is, one record per arm and seed, labels of items."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from sgt_jax.study import records

STUDY = "study.json"  # what the study is: arms, seeds, scores


ITEMS = "items.json"  # what is the same for all arms: kinds of questions, groups of items


RUNS = "runs"  # folder of the files per arm and seed


PICTURES = "pictures"


def item_labels(study: Any, evaluator: str) -> set[str]:
    """Item lists that say what an item is, not how it was done."""
    names = {study.splits[evaluator]} if evaluator in study.splits else set()
    for score in study.scores.values():
        if score.evaluator == evaluator:
            names |= {score[key] for key in ("by", "groups") if score.get(key)}
    return names


def pack(values: Any) -> str | list[float]:
    """Zeros and ones as a string of digits, other numbers rounded to four places: small files, and exact enough."""
    array = np.asarray(values, np.float64)
    if np.isin(array, (0, 1)).all():
        return "".join(str(int(v)) for v in array)
    return [round(float(v), 4) for v in array]


def unpack(values: str | list[float]) -> np.ndarray:
    """What `pack` packed, float64 [n]."""
    return np.array([float(v) for v in values])


def finished(results: epath.PathLike) -> Iterator[Mapping[str, Any]]:
    """The records of all runs in a results folder, in the order of their names."""
    for path in sorted((epath.Path(results) / RUNS).glob("*.json"), key=lambda p: p.name):
        yield json.loads(path.read_text())


def write_json(path: epath.Path, content: Any) -> None:
    # Beside it and renamed: a kill leaves the old file or the new one. Workers side by side write files of their own.
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(json.dumps(content, indent=1) + "\n")
    fresh.replace(path)


def is_study(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a study's results."""
    return (epath.Path(folder) / records.STUDY).exists()
