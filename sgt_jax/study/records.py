"""The files of a study's results: what it is, one record per arm and seed, labels of items."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from sgt_jax.data.stored import atomic
from sgt_jax.data.stored.places import regular

STUDY = "study.json"  # what the study is: arms, seeds, scores
ITEMS = "items.json"  # what is the same for all arms: kinds of questions, groups of items
RUNS = "runs"  # folder of the files per arm and seed
PICTURES = "pictures"  # folder of one grid an arm and evaluator, of the first seed


def is_study(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a study's results."""
    return (epath.Path(folder) / STUDY).exists()


def finished(results: epath.PathLike) -> Iterator[Mapping[str, Any]]:
    """The records of all runs in a results folder, in the order of their names."""
    for path in sorted((epath.Path(results) / RUNS).glob("*.json"), key=lambda p: p.name):
        yield json.loads(regular(path).read_text())


def write_json(path: epath.PathLike, content: Any) -> None:
    """Writes one of these files, whole or not at all; workers side by side write one after the other."""
    atomic.write_text(path, json.dumps(content, indent=1) + "\n")


def same_items(results: epath.PathLike, labels: Mapping[str, Mapping[str, list]]) -> bool:
    """Whether a folder's items are these, {evaluator: {list: values}}; they are written there if it has none yet."""
    path = epath.Path(results) / ITEMS
    if path.exists():
        return json.loads(path.read_text()) == labels
    write_json(path, labels)
    return True


def item_labels(study: ConfigDict, evaluator: str) -> set[str]:
    """Names of an evaluator's lists that say what each item is, not how it was done."""
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
