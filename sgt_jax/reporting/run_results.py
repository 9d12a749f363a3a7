"""Gathers what a finished run left behind into the report's results: scores, pictures, time, data, versions."""

import importlib.metadata
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from sgt_jax.evaluation.evaluators import by_name
from sgt_jax.evaluation.items import evaluated_steps, first_picture
from sgt_jax.evaluation.result import Result
from sgt_jax.evaluation.schedule import Beside, collect_scores
from sgt_jax.reporting import metrics, questions, run_page

_OF_SCENES = "Held-out scenes are drawn by the same program as the training scenes, from a separate range of numbers."
PACKAGES = ("sgt_jax", "jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def write(
    config: ConfigDict,
    workdir: epath.Path,
    results: Mapping[str, Result],
    summary: Mapping[str, Any],
    params: Any,
    beside: Beside | None = None,
) -> epath.Path:
    """Writes results.json and report.html of a run that has just ended; returns the report's path.

    Args:
      config, workdir: of the run.
      results: of the evaluators at the last step.
      summary: seconds per part and realised samples, from the loop.
      params: parameters or their shapes, for the counts.
      beside: another run whose scores stand beside this one's.
    """
    evaluators = config.evaluators.to_dict()
    results = {
        "title": f"SGT {config.name}",
        "run": _run(config, summary, params),
        "scores": collect_scores(workdir, evaluators, beside),
        "pictures": _pictures(evaluators, results, workdir, beside),
        "data": _data(config, summary, workdir),
        "unscored": _unscored(config, workdir),
        "notes": _notes(config, workdir) + _other(beside),
        "config": config.to_dict(),
    }
    return run_page.write_report(workdir, results)


def _run(config: ConfigDict, summary: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """What ran, on what, and how long."""
    return {
        "command": shlex.join(["python", "-m", "sgt_jax.main", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() - summary["seconds"])),
        "steps": config.total_steps,
        "weights": _weights(config),
        "parameters": _parameter_counts(params),
        "hardware": {
            "device": f"{jax.devices()[0].platform} x {jax.device_count()}",
            "host": f"{platform.machine()}, {os.cpu_count()} cores",
            "processes": jax.process_count(),
        },
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "seconds": summary["parts"],
        "data_wait": summary["data_wait"],
    }


def _weights(config: ConfigDict) -> str:
    return (
        f"EMA (decay {config.ema_decay})" if config.evaluate_weights == "ema" and config.ema_decay else "raw parameters"
    )


def _parameter_counts(params: Any) -> dict[str, int]:
    """Parameters of each part of the model, by its name at the top of the tree."""
    counts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        counts[path[0].key] = counts.get(path[0].key, 0) + leaf.size
    return counts


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _pictures(
    evaluators: Mapping[str, Mapping[str, Any]], results: Mapping[str, Result], workdir: epath.Path, beside: Beside | None
) -> list[dict[str, Any]]:
    """The grids of the evaluators that have one, segmentation first; before training and after it side by side.

    Where a question was asked about the same pictures, it stands below them with its answers.
    """
    blocks = []
    for name, result in sorted(results.items(), key=lambda item: evaluators[item[0]]["type"] != "masks"):
        if not result.rows:
            continue
        title, caption = by_name(evaluators[name]["type"], name).TITLE
        before = _first_pictures(workdir, name, result)
        columns, rows = [], [[] for _ in result.rows]
        for number, column in enumerate(result.columns):
            if before and number in result.painted:
                columns += (
                    ["before", "after"] if len(result.painted) == 1 else [f"{column}, before", f"{column}, after"]
                )
            else:
                columns.append(column)
            for r, row in enumerate(result.rows):
                rows[r] += [before[r, number], row[number]] if (before and number in result.painted) else [row[number]]
        block = {"title": title, "caption": caption, "columns": columns, "rows": rows}
        if result.captions:
            block["captions"] = list(result.captions)
        elif asked := questions.about(evaluators, evaluators[name].get("source"), workdir, beside):
            questions.add(block, asked, result.items.get("picture", ()))
        blocks.append(block)
    return blocks


def _first_pictures(workdir: epath.Path, name: str, result: Result) -> dict[tuple[int, int], str]:
    """(row, column) -> path of what the model painted at the first evaluation; {} if this is it or not all are there."""
    paths = {(r, c): first_picture(name, r, c) for r in range(len(result.rows)) for c in result.painted}
    whole = len(evaluated_steps(workdir)) > 1 and all((workdir / path).exists() for path in paths.values())
    return paths if whole else {}


def _data(config: ConfigDict, summary: Mapping[str, Any], workdir: epath.Path) -> dict[str, Any]:
    """What each source gave against what was asked for, and how full the lanes were at the end."""
    weights = {name: config.data.mixture[name].weight for name in config.data.mixture}
    mixture = [
        {"source": name, "wanted": weight / sum(weights.values()), "samples": summary["samples"].get(name, 0)}
        for name, weight in sorted(weights.items())
    ]
    lines = metrics.read_metrics(workdir, kind="train")
    last = lines[-1] if lines else {}
    lanes = [
        {"lane": lane, "budget": budget, "fill": last[f"fill/{lane}"]}
        for lane, budget in config.data.budgets.items()
        if f"fill/{lane}" in last
    ]
    return {"mixture": mixture, "lanes": lanes}


def _unscored(config: ConfigDict, workdir: epath.Path) -> str:
    """Why nothing was scored, or ""."""
    if evaluated_steps(workdir):
        return ""
    return "no evaluation came to its end" if config.evaluators else "config.evaluators is empty"


def _notes(config: ConfigDict, workdir: epath.Path) -> list[str]:
    """What a reader should know before believing the numbers: only what this run's config and files show."""
    steps = evaluated_steps(workdir)
    if not steps:
        return []
    scored = f"Scored were the {_weights(config)} after step {steps[-1]}"
    before = "the same model untrained"
    if config.init_from:
        before = f"the model in {config.init_from}, where training began"
    notes = [scored + (f"; 'before' is {before}." if len(steps) > 1 else ", and no others.")]
    for name in sorted(_asked(config)):
        spec = config.data.sources[name]
        if spec.type == "scenes":
            if any(other.type == "scenes" for other in _trained_on(config)):
                notes += [_OF_SCENES] if _OF_SCENES not in notes else []
        else:
            notes.append(f"Held-out items are of the source {name} ({spec.type}){_apart(spec, _trained_on(config))}.")
    return notes


def _other(beside: Beside | None) -> list[str]:
    if beside is None:
        return []
    if beside.made_by:
        words = "is a run stored in the package, scored on the same items; this makes it again:"
        return [f"'{beside.name}' {words} {beside.made_by}"]
    return [f"'{beside.name}' is another run, scored on the same items: {beside.folder}."]


def _asked(config: ConfigDict) -> set[str]:
    """The sources of all evaluators."""
    names = set()
    for options in config.evaluators.values():
        names |= {options.get("source"), *(options.get("sources") or {}).values()}
    return names & set(config.data.sources)


def _apart(spec: ConfigDict, trained: list[ConfigDict]) -> str:
    """Whether training reads the records of a held-out source, too, where both are of one folder."""
    same = [other for other in trained if (other.type, other.get("root")) == (spec.type, spec.get("root"))]
    if not same:
        return ""
    if all(spec.get("limit") is not None and other.get("skip", 0) >= spec.limit for other in same):
        return f", its first {spec.limit} records, which training leaves out"
    return ", which training reads, too"


def _trained_on(config: ConfigDict) -> list[ConfigDict]:
    """The sources of the mixture."""
    return [config.data.sources[part.source] for part in config.data.mixture.values()]
