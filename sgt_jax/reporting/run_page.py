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
      "unscored": "config.evaluators is empty",            why there are no scores
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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import markupsafe
import numpy as np
from etils import epath

from sgt_jax.data.stored import atomic
from sgt_jax.evaluation.statistics import LEVEL, Estimate, Score
from sgt_jax.reporting import curves, forest, grids, headline, page
from sgt_jax.reporting.forest import Row
from sgt_jax.reporting.metrics import read_metrics
from sgt_jax.reporting.words import NO_BREAK, amount, gain, percent, top, verdict

RESULTS = "results.json"
REPORT = "report.html"
PICTURES = "pictures/report"
_SIDE = 256  # pixels of a picture's longer side on the page; the files keep all
_RUN = ("command", "started", "steps", "weights", "parameters", "hardware", "versions", "seconds", "data_wait")


def write_report(workdir: epath.PathLike, results: Mapping[str, Any]) -> epath.Path:
    """Writes `results.json` (pictures beside it as PNGs) and `report.html`; returns the path of the latter."""
    workdir = epath.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    results = dict(results)
    results["pictures"] = [_save_pictures(workdir, n, p) for n, p in enumerate(results.get("pictures", ()))]
    results["interval_level"] = LEVEL
    atomic.write_text(workdir / RESULTS, json.dumps(_as_json(results), indent=1, allow_nan=False) + "\n")
    return build_report(workdir)


def build_report(workdir: epath.PathLike) -> epath.Path:
    """Makes `report.html` from the files in a work directory, and returns its path.

    Raises:
      FileNotFoundError: there is no `results.json`.
    """
    workdir = epath.Path(workdir)
    if not (workdir / RESULTS).exists():
        raise FileNotFoundError(f"{workdir / RESULTS}: no results to report (did the run come to its end?)")
    results = json.loads((workdir / RESULTS).read_text())
    atomic.write_text(workdir / REPORT, render(results, read_metrics(workdir), workdir))
    return workdir / REPORT


def render(results: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], workdir: epath.PathLike) -> str:
    """The page as text, from results as in `results.json` and the lines of `metrics.jsonl`."""
    scores = [Score.from_dict(s) for s in results.get("scores", ())]
    groups = sorted(dict.fromkeys(s.group for s in scores), key=lambda group: group != "segmentation")
    run = dict.fromkeys(_RUN) | dict(results.get("run", {}))
    training = curves.training_curves(metrics)
    return page.render(
        "report.html",
        title=results.get("title", "Training run"),
        headline=headline.of_results(results, metrics),
        figure=first_figure(scores, training),
        run=run,
        headlines=[s for s in _firsts(scores, groups) if not s.kind and not s.lower_is_better],
        tables=[score_table(g, [s for s in scores if s.group == g]) for g in groups],
        training=[_markup(c) for c in training],
        evaluations=[_markup(c) for c in curves.score_curves(metrics)],
        pictures=[_load_pictures(epath.Path(workdir), p) for p in results.get("pictures", ())],
        data=dict.fromkeys(("mixture", "lanes")) | dict(results.get("data", {})),
        notes=results.get("notes", ()),
        config=json.dumps(results["config"], indent=2) if results.get("config") else "",
        level=results.get("interval_level", LEVEL),
    )


def first_figure(scores: Sequence[Score], training: Sequence[curves.Curve]) -> dict[str, Any] | None:
    """The figure under the first sentence: how every overall score changed, else what it is, else the loss; None: nothing.

    Returns:
      "svg" and "caption".
    """
    overall = sorted((s for s in scores if not s.kind), key=lambda s: s.group != "segmentation")
    compared = [s for s in overall if s.over_before]
    if shown := compared or overall:
        units = [s.unit for s in shown]
        unit = max(units, key=units.count)  # one axis has one unit
        shown = [s for s in shown if s.unit == unit]
        rows = [
            Row(s.name, s.over_before, verdict(s.over_before, s.lower_is_better)) if compared else Row(s.name, s.after)
            for s in shown
        ]
        what = {"%": "points" if compared else "percent"}.get(unit, unit or "index")
        title = f"Change since before training, {what}" if compared else f"Scores, {what}"
        svg = forest.draw(title, rows, unit, differences=bool(compared))
        hollow = "; hollow: the interval holds zero" if any(r.verdict == "same" for r in rows) else ""
        return {"svg": markupsafe.Markup(svg), "caption": f"{title}; lines are {percent(LEVEL)} intervals{hollow}."}
    if training:
        return {"svg": markupsafe.Markup(training[0].svg), "caption": f"{training[0].title} over training steps."}
    return None


def score_table(group: str, scores: Sequence[Score]) -> dict[str, Any]:
    """What the template needs to print the scores of a group as one table.

    Returns:
      "group"; "rows", its scores; "has", which columns any row fills; "top", the value at the right end of the bars;
      "beside", "baselines" and "ceilings", the names of what the scores are held against.
    """
    parts = ("before", "baseline", "ceiling", "beside", "over_baseline", "over_before", "over_beside")
    return {
        "group": group,
        "rows": scores,
        "has": {part: any(getattr(s, part) for s in scores) for part in parts},
        "top": max(map(top, scores)),
        "beside": next((s.beside_name for s in scores if s.beside), ""),
        "baselines": sorted({s.baseline_name for s in scores if s.baseline}),
        "ceilings": sorted({s.ceiling_name for s in scores if s.ceiling}),
    }


def plain_table(scores: Sequence[Score]) -> str:
    """The headline scores of a run as a table for a terminal: before, after and the paired change, with intervals.

    With another run beside it, that run's scores and the paired difference from them have columns of their own.
    """

    def short(value: float, unit: str) -> str:  # the unit is in the first column
        return amount(value, unit).replace(NO_BREAK + "%", "")

    def between(e: Estimate, unit: str, write: Callable[[float, str], str]) -> str:
        return f"{write(e.value, unit)} [{write(e.low, unit)}, {write(e.high, unit)}]"

    other = next((s.beside_name for s in scores if s.beside), "")
    rows = [("held-out score, 95 % intervals", "before", "after", "change", "trivial", other, f"after − {other}")]
    for s in scores:
        if s.kind:
            continue
        name = s.name + (", %" if s.unit == "%" else f", {s.unit}" if s.unit else "")
        cells = [
            short(s.before.value, s.unit) if s.before else "",
            between(s.after, s.unit, short),
            between(s.over_before, s.unit, gain) if s.over_before else "",
            short(s.baseline.value, s.unit) if s.baseline else "",
            short(s.beside.value, s.unit) if s.beside else "",
            between(s.over_beside, s.unit, gain) if s.over_beside else "",
        ]
        rows.append((f"{name} (n = {s.after.n})", *cells))
    if not other:
        rows = [row[:-2] for row in rows]
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


# Parts ----------------------------------------------------------------------------------------------------------------


def _save_pictures(workdir: epath.Path, number: int, block: Mapping[str, Any]) -> dict[str, Any]:
    """A block of pictures with the paths of PNGs in place of the arrays, which are written there."""
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
    """The block with pictures as data URIs, every example as one row."""
    captions = list(block.get("captions", ()))
    examples = []
    for n, row in enumerate(block["rows"]):
        pictures = [page.embedded_picture(workdir / path, _SIDE) if path else None for path in row]
        examples.append({"pictures": pictures, "caption": captions[n] if n < len(captions) else ""})
    return {"caption": "", "columns": (), **block, "examples": examples}


def _markup(curve: curves.Curve) -> curves.Curve:
    return curve._replace(svg=markupsafe.Markup(curve.svg))


def _firsts(scores: Sequence[Score], groups: Sequence[str]) -> list[Score]:
    """The first score of each group, in the order of the groups."""
    return [next(s for s in scores if s.group == group) for group in groups]


def _as_json(value: Any) -> Any:
    """Values as JSON has them: no arrays, no records, nothing that is not finite."""
    if isinstance(value, Score | Estimate):
        return _as_json(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _as_json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray) or hasattr(value, "tolist"):
        return _as_json(np.asarray(value).tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_json(v) for v in value]
    if value is None or isinstance(value, bool | str | numbers.Integral):
        return value
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return str(value)
