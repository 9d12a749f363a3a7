"""Two evaluated models on the same items: paired differences, McNemar's test, and the groups that moved."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax.errors import DataError
from sgt_jax.evaluation import power, statistics
from sgt_jax.evaluation.benchmarks import files

_PROTOCOL = ("items", "settings")


def runs_in(folder: Path) -> dict[str, Path]:
    """benchmark -> its folder, of all that have scores below a folder. Raises DataError if there is none."""
    found = {path.parent.name: path.parent for path in sorted(folder.glob("*/scores.json"))}
    if not found:
        raise DataError(f"{folder}: holds no */scores.json; give the --out of `evaluate`")
    return found


def hits_of(folder: Path) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """index -> hit by the main rule (the first of the items' rules), and the whole lines."""
    lines = files.read_json_lines(folder / "items.jsonl")
    rule = next(iter(lines[0]["hits"])) if lines else ""
    rule = "toolkit" if lines and "toolkit" in lines[0]["hits"] else rule
    return {line["index"]: line["hits"][rule] for line in lines}, {line["index"]: line for line in lines}


def other_protocol(a: Path, b: Path) -> str:
    """What two runs did not do alike, or ""; batch and model may differ."""
    first, second = (files.read_json(folder / "manifest.json") for folder in (a, b))
    for key in _PROTOCOL:
        x, y = ({k: v for k, v in m[key].items() if k != "batch"} for m in (first, second))
        for name in {**x, **y}:
            if x.get(name) != y.get(name):
                return f"{key}, {name}: {x.get(name)!r} against {y.get(name)!r}"
    return ""


def compare(a: Path, b: Path) -> dict[str, Any]:
    """B minus A on the items that both answered.

    Returns: items, a, b (accuracies), difference (with its interval), discordant, p (None for values between 0 and 1), and
    moved: the groups whose difference excludes 0, the largest first. With `refused` nothing else: the protocols differ.
    """
    if why := other_protocol(a, b):
        return {"refused": why}
    (first, lines), (second, _) = hits_of(a), hits_of(b)
    shared = [index for index in first if index in second and not math.isnan(first[index] + second[index])]
    if not shared:
        return {"refused": "no item was answered by both"}
    x, y = (np.array([values[index] for index in shared], float) for values in (first, second))
    groups = [lines[index].get("cluster", index) for index in shared]
    clusters = groups if len(set(groups)) < len(groups) else None
    found = statistics.difference(y, x, clusters)
    binary = set(np.unique(np.concatenate([x, y]))) <= {0.0, 1.0}
    return {
        "items": len(shared), "a": float(x.mean()), "b": float(y.mean()),
        "difference": {"value": found.value, "low": found.low, "high": found.high},
        "discordant": power.discordance(x, y), "p": power.mcnemar(x, y) if binary else None,
        "clusters": len(set(groups)) if clusters else None, "design_effect": power.design_effect(y - x, clusters),
        "moved": _moved(x, y, [lines[index].get("kind", "") for index in shared], clusters),
    }  # fmt: skip


def _moved(x: np.ndarray, y: np.ndarray, kinds: list[str], clusters: list[Any] | None) -> list[dict[str, Any]]:
    out = []
    for kind in sorted(set(kinds)):
        pick = np.array([one == kind for one in kinds])
        if not kind or pick.sum() < 2:
            continue
        mine = None if clusters is None else [c for c, chosen in zip(clusters, pick) if chosen]
        found = statistics.difference(y[pick], x[pick], mine)
        if found.low > 0 or found.high < 0:
            out.append(
                {"kind": kind, "items": int(pick.sum()), "value": found.value, "low": found.low, "high": found.high}
            )
    return sorted(out, key=lambda entry: -abs(entry["value"]))


def needed(
    benchmark: Any, points: float, accuracy: float = 0.7, runs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a difference of some points needs on a benchmark.

    Args:
      accuracy: of the model, where no run says it.
      runs: a result of `compare`, for how often two models disagree and how much groups matter.
    """
    difference, effect, discordant, assumed = points / 100, 1.0, max(power.DISCORDANT, points / 100), True
    if runs and "refused" not in runs:
        accuracy = min(max(runs["a"], 0.01), 0.98 - difference)
        effect, assumed = runs["design_effect"], False
        discordant = min(1.0, max(runs["discordant"], difference))
    one = math.ceil(power.items_for_one(accuracy, difference) * effect)
    two = math.ceil(power.items_for_two(discordant, difference) * effect)
    size = benchmark.size
    return {
        "benchmark": benchmark.name, "points": points, "accuracy": accuracy, "discordant": discordant,
        "assumed": assumed, "design_effect": effect, "items for one model": one, "items for two models": two,
        "size": size or None,
        "seeds for two models": math.ceil(two / size) if size else None,
        "power with one seed": power.power_of_two(max(1, int(size / effect)), discordant, difference) if size else None,
    }  # fmt: skip


def read_scores(folder: Path) -> dict[str, Any]:
    """scores.json of one benchmark."""
    return json.loads((folder / "scores.json").read_text("utf-8"))
