"""The end of a run on one page: `results.json` with every score, and a self-contained `report.html` made from it.

`write_report(workdir, results)` saves pictures and `results.json`, then calls `build_report(workdir)`, which needs only
the files: `results.json`, `metrics.jsonl` and the PNGs. So a report can be rebuilt, and a study can reuse the sections.

The results are a plain dict; every part may be missing, and its section is then left out:

    {
      "title": "SGT nano",
      "run": {
        "command": "python -m sgt_jax.main ...",
        "started": "2025-01-31 12:00",
        "steps": 1000,
        "weights": "EMA (decay 0.99)",                     which weights were scored
        "parameters": {"vision encoder": 210000, ...},     counts by part
        "hardware": {"device": "cpu x 2", ...},            any names and texts
        "versions": {"jax": "0.10.2", ...},
        "seconds": {"training": 201.0, ...},               disjoint parts of the wall clock, in the order to show
        "data_wait": 0.003,                                fraction of the training time
      },
      "scores": [Score or Score.to_dict(), ...],           see evaluation/statistics.py; the first of each group is a
                                                           headline, if it has no kind and is not an error (a loss)
      "pictures": [{
        "title": "Masks", "caption": "one sentence",
        "columns": ["photo", "target", "painted"],
        "captions": ["a prompt", ...],                     optional, one per row
        "rows": [[picture, ...], ...],                     uint8 [H, W, 3], or a PNG's path relative to the work
      }],                                                  directory; None is an empty place
      "data": {
        "mixture": [{"source": "segmentation", "wanted": 0.25, "samples": 24000, "tokens": 800000, "loss_weight": 0.3}],
        "lanes": [{"lane": "und", "budget": 192, "fill": 0.93}],
      },
      "notes": ["what a reader should know before believing the numbers"],
      "config": {...},                                     nested plain values
    }

In `results.json` pictures are paths, scores are dicts and numbers that are not finite are null.
"""

import dataclasses
import json
import math
import numbers
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import markupsafe
import numpy as np
from etils import epath

from sgt_jax.evaluation.statistics import LEVEL, Estimate, Score
from sgt_jax.reporting import curves, grids
from sgt_jax.reporting import metrics as reporting_metrics
from sgt_jax.reporting.page import asset, data_uri, write_text
from sgt_jax.reporting.words import NO_BREAK, amount, clock, gain, integer, percent, sentence, top, verdict

RESULTS = "results.json"
REPORT = "report.html"
PICTURES = "pictures/report"
_RUN = ("command", "started", "steps", "weights", "parameters", "hardware", "versions", "seconds", "data_wait")


def write_report(workdir: epath.PathLike, results: Mapping[str, Any]) -> epath.Path:
    """Writes `results.json` (pictures beside it as PNGs) and `report.html`; returns the path of the latter."""
    workdir = epath.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    results = dict(results)
    results["pictures"] = [_save_pictures(workdir, n, p) for n, p in enumerate(results.get("pictures", ()))]
    results["interval_level"] = LEVEL
    write_text(workdir / RESULTS, json.dumps(_plain(results), indent=1, allow_nan=False) + "\n")
    return build_report(workdir)


def build_report(workdir: epath.PathLike) -> epath.Path:
    """Makes `report.html` from the files in a work directory."""
    workdir = epath.Path(workdir)
    if not (workdir / RESULTS).exists():
        raise FileNotFoundError(f"{workdir / RESULTS}: no results to report (did the run come to its end?)")
    results = json.loads((workdir / RESULTS).read_text())
    write_text(workdir / REPORT, render(results, reporting_metrics.read_metrics(workdir), workdir))
    return workdir / REPORT


def render(results: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], workdir: epath.PathLike) -> str:
    """The page as text, from results as in `results.json` and the lines of `metrics.jsonl`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sgt_jax", "assets/report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (amount, gain, integer, percent, clock, sentence, top, verdict)
    environment.filters.update({f.__name__: f for f in filters})
    scores = [Score.from_dict(s) for s in results.get("scores", ())]
    groups = list(dict.fromkeys(s.group for s in scores))
    run = dict.fromkeys(_RUN) | dict(results.get("run", {}))
    return environment.get_template("report.html").render(
        title=results.get("title", "Training run"),
        run=run,
        headlines=[s for s in _firsts(scores) if not s.kind and not s.lower_is_better],
        tables=[score_table(g, [s for s in scores if s.group == g]) for g in groups],
        training=[_markup(c) for c in curves.training_curves(metrics)],
        evaluations=[_markup(c) for c in curves.score_curves(metrics)],
        pictures=[_load_pictures(epath.Path(workdir), p) for p in results.get("pictures", ())],
        data=dict.fromkeys(("mixture", "lanes")) | dict(results.get("data", {})),
        notes=results.get("notes", ()),
        config=json.dumps(results["config"], indent=2) if results.get("config") else "",
        level=results.get("interval_level", LEVEL),
        style=asset(environment, "style.css"),
    )


def score_table(group: str, scores: Sequence[Score]) -> dict[str, Any]:
    """What the template needs to print the scores of a group as one table.

    Returns: `rows`, the columns that any row fills (`has`), and `top`, the value at the right end of the bars.
    """
    parts = ("before", "baseline", "ceiling", "over_baseline", "over_before")
    return {
        "group": group,
        "rows": scores,
        "has": {part: any(getattr(s, part) for s in scores) for part in parts},
        "top": max(map(top, scores)),
        "baselines": sorted({s.baseline_name for s in scores if s.baseline}),
        "ceilings": sorted({s.ceiling_name for s in scores if s.ceiling}),
    }


def plain_table(scores: Sequence[Score]) -> str:
    """The headline scores of a run as a table for a terminal: before, after and the paired change, with intervals."""

    def between(e: Estimate, unit: str, write: Any) -> str:
        return f"{write(e.value, unit)} [{write(e.low, unit)}, {write(e.high, unit)}]".replace(NO_BREAK + "%", "")

    rows = [("held-out score, 95 % intervals", "before", "after", "change", "trivial")]
    for s in scores:
        if s.kind:
            continue
        name = s.name + (", %" if s.unit == "%" else f", {s.unit}" if s.unit else "")
        cells = [
            amount(s.before.value, s.unit).replace(NO_BREAK + "%", "") if s.before else "",
            between(s.after, s.unit, amount),
            between(s.over_before, s.unit, gain) if s.over_before else "",
            amount(s.baseline.value, s.unit).replace(NO_BREAK + "%", "") if s.baseline else "",
        ]
        rows.append((f"{name} (n = {s.after.n})", *cells))
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


# Filters of the templates ---------------------------------------------------------------------------------------------


# Files ----------------------------------------------------------------------------------------------------------------


def _save_pictures(workdir: epath.Path, number: int, block: Mapping[str, Any]) -> dict[str, Any]:
    folder = workdir / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for r, row in enumerate(block["rows"]):
        places: list[str | None] = []
        for c, picture in enumerate(row):
            if picture is None or isinstance(picture, str | os.PathLike):
                places.append(None if picture is None else os.fspath(picture))
                continue
            name = f"{PICTURES}/{number:02d}_{r:02d}_{c:02d}.png"
            grids.write_png(workdir / name, picture)
            places.append(name)
        rows.append(places)
    return {**block, "rows": rows}


def _load_pictures(workdir: epath.Path, block: Mapping[str, Any]) -> dict[str, Any]:
    """The block with pictures as data URIs, every example as one column."""
    captions = list(block.get("captions", ()))
    examples = [
        {"pictures": [data_uri(workdir / p) if p else None for p in row], "caption": (captions[n : n + 1] or [""])[0]}
        for n, row in enumerate(block["rows"])
    ]
    return {"caption": "", "columns": (), **block, "examples": examples}


def _markup(curve: curves.Curve) -> curves.Curve:
    return curve._replace(svg=markupsafe.Markup(curve.svg))


def _firsts(scores: Sequence[Score]) -> list[Score]:
    """The first score of each group."""
    return list({s.group: s for s in reversed(scores)}.values())[::-1]


def _plain(value: Any) -> Any:
    """Values as JSON has them: no arrays, no records, nothing that is not finite."""
    if isinstance(value, Score | Estimate):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray) or hasattr(value, "tolist"):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | str | numbers.Integral):
        return value
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return str(value)
