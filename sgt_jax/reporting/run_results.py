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

from sgt_jax.evaluation.items import evaluated_steps
from sgt_jax.evaluation.result import Result
from sgt_jax.evaluation.schedule import collect_scores
from sgt_jax.reporting import metrics, run_page

TITLES = {
    "masks": (
        "Masks painted from photographs",
        "Held-out scenes: what the model saw, what it should paint, what it painted.",
    ),
    "edits": ("Pictures edited on request", "One object changes, everything else should stay as it is."),
    "prompts": ("Pictures drawn for GenEval's kinds of prompts", "Each prompt and what was drawn for it."),
    "drawings": ("Pictures drawn from captions", "Held-out captions; the right column is one scene of that caption."),
}
PACKAGES = ("sgt_jax", "jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def write(
    config: Any,
    experiment: Any,
    workdir: epath.Path,
    results: Mapping[str, Result],
    summary: Mapping[str, Any],
    params: Any,
) -> epath.Path:
    """Writes results.json and report.html of a run that has just ended; returns the report's path.

    Args:
      config, experiment, workdir: of the run.
      results: what the evaluators found at the last step.
      summary: seconds per part and realised samples, from the loop.
      params: parameters or their shapes, for the counts.
    """
    evaluators = config.evaluators.to_dict()
    lines = metrics.read_metrics(workdir, kind="train")
    last = lines[-1] if lines else {}
    steps = evaluated_steps(workdir)
    if config.evaluate_weights == "ema":
        weights = f"EMA (decay {config.ema_decay})"
    else:
        weights = "raw parameters"
    counts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        counts[path[0].key] = counts.get(path[0].key, 0) + leaf.size
    before = (
        f"the model in {config.init_from}, where training began" if config.init_from else "the same model untrained"
    )
    pictures = []
    for name, result in results.items():
        if result.rows:
            title, caption = TITLES.get(evaluators[name]["type"], (name, ""))
            entry = {"title": title, "caption": caption, "columns": list(result.columns), "rows": result.rows}
            if result.captions:
                entry["captions"] = list(result.captions)
            pictures.append(entry)
    return run_page.write_report(
        workdir,
        {
            "title": f"SGT {config.name}",
            "run": {
                "command": shlex.join(["python", "-m", "sgt_jax.main", *sys.argv[1:]]),
                "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() - summary["seconds"])),
                "steps": config.total_steps,
                "weights": weights,
                "parameters": counts,
                "hardware": {
                    "device": f"{jax.devices()[0].platform} x {jax.device_count()}",
                    "host": f"{platform.machine()}, {os.cpu_count()} cores",
                    "processes": jax.process_count(),
                },
                "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
                "seconds": summary["parts"],
                "data_wait": summary["data_wait"],
            },
            "scores": collect_scores(workdir, evaluators),
            "pictures": pictures,
            "data": _data(config, experiment, summary, last),
            "notes": [
                f"Scored were the {weights} after step {steps[-1] if steps else 0}; 'before' is {before}.",
                "Held-out scenes are drawn by the same program as the training scenes, from a separate range of numbers.",
            ],
            "config": config.to_dict(),
        },
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _data(config: Any, experiment: Any, summary: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    samples = summary["samples"]
    total = sum(config.data.mixture[name].weight for name in config.data.mixture)
    mixture = [
        {"source": name, "wanted": part.weight / total, "samples": samples.get(name, 0)}
        for name, part in sorted(config.data.mixture.items())
    ]
    lanes = [
        {"lane": lane, "budget": budget, "fill": last[f"fill/{lane}"]}
        for lane, budget in config.data.budgets.items()
        if f"fill/{lane}" in last
    ]
    return {"mixture": mixture, "lanes": lanes}
