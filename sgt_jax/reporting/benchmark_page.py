"""The page of benchmark scores: ours beside the paper's, greyed where the protocol is another one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etils import epath

from sgt_jax.assets import resource
from sgt_jax.evaluation.benchmarks import files, registry
from sgt_jax.evaluation.benchmarks.comparing import read_scores, runs_in
from sgt_jax.reporting.page import render

PAGE = "benchmarks.html"


def other_protocol(name: str, entries: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """How a score was made otherwise than the paper's, or "": then a difference may be taken."""
    reasons = []
    if not entries["paper"]["complete"]:
        reasons.append(f"{entries['answered']} of {entries['of']} items")
    if entries["paper"]["lower bound"]:
        reasons.append("no judge read the replies that the rules could not")
    settings = manifest["settings"]
    if settings.get("prompt", "toolkit") != "toolkit":
        reasons.append("asked in BAGEL's words")
    if name == "geneval_long" and settings["samples"] != 1:
        reasons.append(f"{settings['samples']} pictures a prompt instead of 1")
    if name == "gedit":
        reasons.append("the judge may be another one")
    return "; ".join(reasons)


def row_of(name: str, entries: Mapping[str, Any], manifest: Mapping[str, Any], paper: list[float]) -> dict[str, Any]:
    """One row of a table: texts, and `other` if the protocol is not the paper's."""
    other = other_protocol(name, entries, manifest)
    value = entries["paper"]["value"]
    interval = next(iter(entries.get("intervals", {}).values()), None)
    return {
        "title": registry.by_name(name).title,
        "value": "-" if value is None else f"{value:.2f}",
        "interval": "-" if interval is None else f"{100 * interval['low']:.1f} to {100 * interval['high']:.1f}",
        "paper": [f"{cell:.2f}" for cell in paper],
        "difference": "-" if other or value is None else f"{value - paper[0]:+.2f}",
        "what": entries["paper"]["what"],
        "other": other,
    }


def tables_of(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The tables of the page, and the paper's numbers that they hold."""
    paper = json.loads(epath.Path(resource("package:report/benchmarks.json")).read_text())
    found, tables = runs_in(folder), []
    for table in paper["tables"].values():
        rows = []
        for column, name in enumerate(table["columns"]):
            if name in found:
                numbers = [values[column] for values in table["rows"].values()]
                manifest = files.read_json(found[name] / "manifest.json")
                rows.append(row_of(name, read_scores(found[name]), manifest, numbers))
        if rows:
            tables.append({"title": table["title"], "names": list(table["rows"]), "rows": rows})
    return tables, paper


def write(folder: Path) -> Path:
    """Writes the page of all benchmarks below a folder; returns its path. Raises DataError if there are none."""
    tables, paper = tables_of(folder)
    entries, model = [], ""
    for name, path in runs_in(folder).items():
        scores = read_scores(path)
        model = files.read_json(path / "manifest.json").get("model", model)
        title = registry.by_name(name).title
        shown = [(key, f"{value:.4f}") for key, value in scores["scores"].items()]
        entries.append({"title": title, "answered": scores["answered"], "of": scores["of"], "scores": shown,
                        "bad": sum(scores.get("bad", {}).values())})  # fmt: skip
    path = folder / PAGE
    path.write_text(render(PAGE, model=model, tables=tables, entries=entries, source=paper["source"]), encoding="utf-8")
    return path
