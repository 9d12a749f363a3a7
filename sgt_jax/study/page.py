"""The report of a study, one self-contained HTML file made from its results folder alone; see `run.py`.

`python -m sgt_jax report FOLDER` rebuilds it, also while the study is still under way.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import markupsafe
import numpy as np
from etils import epath

from sgt_jax.data.stored import atomic
from sgt_jax.evaluation.statistics import LEVEL
from sgt_jax.reporting import headline, page
from sgt_jax.reporting.words import gain, percent, verdict
from sgt_jax.study import curves, figures, sheets, tables
from sgt_jax.study.tables import Column, Results

REPORT = "report.html"
DIFFERS = (
    "The models: ours has 2 M parameters and sees 32 x 32 pictures of procedural scenes; the paper's have 7 to 14 B and see "
    "photographs.",
    "The judges: ours know each scene exactly; CV-Bench, POPE, GenEval and GEdit ask people's labels, detectors and models.",
    "The groups are ours in the manner of the paper's, whose members are not published; there is no OCR here, and "
    "'knowledge' is arithmetic in words.",
    "The paper reports single runs without intervals; here every number is a mean over seeds and items.",
)


def build(folder: epath.PathLike) -> epath.Path:
    """Writes FOLDER/report.html and returns its path.

    Raises:
      DataError: no results there.
    """
    folder = epath.Path(folder)
    path = folder / REPORT
    atomic.write_text(path, render(tables.read_results(folder), folder))
    return path


def render(results: Results, folder: epath.PathLike) -> str:
    """The page as text."""
    facts = results.facts
    columns = [c._replace(title=_ours(c.title)) for c in tables.columns(results)]
    paper = page.paper_of(facts["name"])
    runs = sum(len(seeds) for seeds in results.records.values())
    wanted = sum(len(facts["seeds"]) if steps else 1 for steps in facts["steps"].values())
    reference = _compared_with(results, columns)
    forests = figures.gain_forests(results, _headline_first(facts, columns), reference)
    plots = [{"title": title, "svg": markupsafe.Markup(svg)} for title, svg in forests]
    return page.render(
        "study.html",
        title=f"Study: {facts['name']}",
        headline=headline_of(results, {c.name: c for c in columns}),
        figure=_lead(plots, reference),
        facts={"about": "", **facts},
        runs=runs,
        wanted=wanted,
        asked=next(c.title for c in columns if c.name == facts["headline"]),
        claim=claim(results, {c.name: c for c in columns}),
        columns=columns,
        arms=list(results.records),
        references=[r for r in facts["references"] if r in results.records],
        reference=reference,
        forests=plots[1:],
        judged=figures.judged,
        sections=curves.sections(results, columns, paper),
        reused=[
            f"{arm}, seed {s} ({r['reused']})"
            for arm, d in results.records.items()
            for s, r in d.items()
            if "reused" in r
        ],
        kinds=[(name, tables.by_kind(results, name, _first_item(results, name))) for name in facts["splits"]],
        sheets=sheets.read(folder, list(results.records), facts["base"].get("evaluators", {})),
        cost=cost(results),
        paper=paper,
        differs=DIFFERS,
        level=LEVEL,
        base=json.dumps(facts["base"], indent=2),
        changes=json.dumps(facts["arms"], indent=2),
    )


def _ours(title: str) -> str:
    """A score's title that does not pass for the benchmark after whose manner it is."""
    return re.sub(r"\b(GenEval|POPE)\b(?!-style)", r"\1-style", title)


def headline_of(results: Results, columns: Mapping[str, Column]) -> str:
    """The first sentence: the study's favourite arm against its first reference, in the score that it is about."""
    facts = results.facts
    column, arm, reference = columns[facts["headline"]], facts["favourite"], facts["references"][0]
    contrast = column.cells[arm].against.get(reference) if arm in column.cells else None
    if contrast is None:
        runs = sum(len(seeds) for seeds in results.records.values())
        ran = f"{runs} {'run has' if runs == 1 else 'runs have'} ended"
        return f"Not decided: {ran}, and {arm} and {reference} have no seed in common so far."
    change = headline.Change(
        column.title, column.cells[arm].value, contrast.difference, arm=arm, rival=reference, runs=contrast.seeds
    )
    return headline.first_sentence([change])


def _compared_with(results: Results, columns: Sequence[Column]) -> str:
    """The first arm of reference that anything can be compared with so far; the first one if there is none."""
    references = results.facts["references"]
    known = (r for r in references if any(r in cell.against for c in columns for cell in c.cells.values()))
    return next(known, references[0])


def _headline_first(facts: Mapping[str, Any], columns: Sequence[Column]) -> list[Column]:
    """All scores but those that another one repeats: the mean over a single group is that group."""
    single = len(facts["understanding"]) == 1
    kept = [c for c in columns if not (single and c.name == tables.OVERALL)]
    return sorted(kept, key=lambda c: c.name != facts["headline"])


def _lead(plots: Sequence[Mapping[str, Any]], reference: str) -> dict[str, Any] | None:
    if not plots:
        return None
    words = f"points over {reference}, lines are {percent(LEVEL)} intervals over seeds and items"
    return {
        "svg": plots[0]["svg"],
        "caption": f"{plots[0]['title']}: {words}; hollow: the interval holds zero; blue: one run, no verdict.",
    }


def markdown(results: Results) -> str:
    """The claim, the tables of scores and of differences and those of curves, for a document; percent and points."""
    columns = tables.columns(results)
    parts = [f"> {claim(results, {c.name: c for c in columns})}", "Scores, percent, means over seeds and items:"]

    def table(arms: Sequence[str], cell: Any) -> str:
        head = ["arm", *(c.title for c in columns)]
        return _markdown_table(head, [[arm, *(cell(c, arm) for c in columns)] for arm in arms])

    parts.append(table(list(results.records), lambda c, arm: f"{100 * c.cells[arm].value.value:.1f}"))
    for reference in results.facts["references"]:
        arms = [arm for arm in results.records if any(reference in c.cells[arm].against for c in columns)]
        if not arms:
            continue
        parts.append(
            f"Against {reference}, points [{LEVEL:.0%} interval over seeds and items]; bold where it excludes zero, "
            "* where p < 0.05 by a t-test over seeds after Holm's rule over the arms:"
        )
        parts.append(table(arms, functools.partial(_difference, reference)))
    for section in curves.sections(results, columns, page.paper_of(results.facts["name"])):
        parts += [f"**{section.title}.** {section.text}"]
        for each in section.tables:
            parts += [f"{each.title}:", _markdown_table(each.head, each.rows)]
    return "\n\n".join(parts)


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _difference(reference: str, column: Column, arm: str) -> str:
    cell = column.cells[arm]
    if reference not in cell.against:
        return "–"
    d, p = cell.against[reference].difference, cell.adjusted[reference]
    value = gain(d.value, "%")
    bold = value if verdict(d) == "same" else f"**{value}**"
    star = "*" if p is not None and p < 0.05 else ""
    return f"{bold}{star} [{gain(d.low, '%')}, {gain(d.high, '%')}]"


def claim(results: Results, columns: Mapping[str, Column]) -> str:
    """The study's answer in a sentence, with its interval; an unfinished study, or one without an effect, says so."""
    facts = results.facts
    column, arm, reference = columns[facts["headline"]], facts["favourite"], facts["references"][0]
    cell = column.cells.get(arm)
    contrast = cell and cell.against.get(reference)
    if contrast is None:
        return f"No claim yet: {arm} and {reference} have no seed in common so far."
    d = contrast.difference
    words = {"better": "raises", "worse": "lowers", "same": "does not measurably change"}[verdict(d)]
    p = cell.adjusted[reference]
    seeds = "1 seed" if contrast.seeds == 1 else f"{contrast.seeds} seeds"
    text = (
        f"With {seeds}, {arm} {words} the {column.title} score against {reference}: "
        f"{gain(d.value, '%')} points ({LEVEL:.0%} interval {gain(d.low, '%')} to {gain(d.high, '%')}"
        + (f", p = {p:.2g} after Holm)" if p is not None else "; one seed allows no test)")
    )
    rivals = {a: c for a, c in column.cells.items() if a not in facts["references"] and facts["steps"][a]}
    best = max(rivals, key=lambda a: rivals[a].value.value)
    beside = f"of the {len(rivals)} arms beside {' and '.join(facts['references'])}"
    if best == arm:
        return f"{text}. By its mean it is the best {beside}."
    gap = rivals[best].value.value - cell.value.value
    return f"{text}. By its mean {best} is the best {beside}, {gain(gap, '%')} points from {arm}."


def cost(results: Results) -> list[dict[str, Any]]:
    """Per arm: steps, samples of understanding and of proxies a seed, and seconds of training.

    The seconds are the median over the runs that were not interrupted; None if there is none.
    """
    rows = []
    for arm, seeds in results.records.items():
        samples = [record["samples"] for record in seeds.values()]
        seconds = [r["timing"]["training"] for r in seeds.values() if not r["timing"]["resumed_at"]]
        steps = results.facts["steps"][arm]
        rows.append(
            {
                "arm": arm,
                "steps": steps,
                "seeds": len(seeds),
                "understanding": round(np.mean([s.get("understanding", 0) for s in samples])),
                "proxy": round(np.mean([s.get("proxy", 0) for s in samples])),
                "seconds": float(np.median(seconds)) if seconds and steps else None,
            }
        )
    return rows


def _first_item(results: Results, evaluator: str) -> str:
    return next(spec["item"] for spec in results.facts["scores"].values() if spec["evaluator"] == evaluator)
