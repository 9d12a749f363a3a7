"""The curves of a study's report: scores over what its arms are ordered by, and over training.

A study with `curve` in its config (`label`, `log`, `points`: arm -> x, `paper`: a key of assets/report/paper.json) has its
arms on an axis; one with `history` was scored along the way (`study_history.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.evaluation.statistics import Estimate
from sgt_jax.reporting import words
from sgt_jax.study import tables as study_tables
from sgt_jax.study.figures import Line, _line, draw
from sgt_jax.study.tables import Column, Found

RESAMPLES = 500  # at every step of a run: fewer than for a table
# What a run had seen or computed at a step, by which its curve can be drawn.
AXES = {
    "step": "steps",
    "answer_tokens": "understanding tokens (supervised)",
    "slots": "decoder slots computed",
}


class Table(NamedTuple):
    """Rows of texts below a head."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Section(NamedTuple):
    """A part of the page: figures, each `<svg>` with the names of its lines, and tables."""

    title: str
    text: str
    figures: Sequence[tuple[str, Sequence[str]]]
    tables: Sequence[Table]


def sections(found: Found, columns: Sequence[Column], paper: Mapping[str, Any]) -> list[Section]:
    """What the study and its results so far allow."""
    made = []
    if found.facts.get("curve"):
        made.append(ordered(found, columns, paper))
    if any("history" in record for seeds in found.records.values() for record in seeds.values()):
        made.append(convergence(found))
    return [section for section in made if section is not None]


# -- Arms on an axis ---------------------------------------------------------------------------------------------------


def ordered(found: Found, columns: Sequence[Column], paper: Mapping[str, Any]) -> Section | None:
    """Every score over the axis of the study's arms, and the paper's curve beside ours; None with fewer than two arms."""
    curve, reference = found.facts["curve"], found.facts["references"][0]
    points = sorted((x, arm) for arm, x in curve["points"].items() if arm in found.records)
    if len(points) < 2:
        return None
    xs = [x for x, _ in points]
    lines = {c.name: _line("ours", xs, [c.cells[arm].value for _, arm in points]) for c in columns}
    figures = []
    for c in columns:
        figures.append((draw(c.title, [lines[c.name]], curve["label"], log=curve["log"]), ("ours",)))
    figures.insert(1, (_gains(points, columns[0], reference, curve), ("ours",)))
    theirs, tables = paper.get("curves", {}).get(curve["paper"]), []
    head = [curve["label"], "overall, percent", f"against {reference}, points"]
    rows = []
    for x, arm in points:
        cell = columns[0].cells[arm]
        d = cell.against[reference].difference if reference in cell.against else None
        rows.append([f"{x:g}", _interval(cell.value), "–" if d is None else _gain(d)])
    tables.append(Table("Ours: understanding, overall", head, rows))
    if theirs:
        nan = [np.nan] * len(theirs["x"])
        both = [Line(f"paper, {model}", theirs["x"], y, nan, nan) for model, y in theirs["rows"]]
        svg = draw(f"Paper: {theirs['title'].lower()}", both, theirs["label"], log=theirs["log"])
        figures.insert(2, (svg, tuple(line.name for line in both)))
        head = ["model", "base", *(f"{x:,}" for x in theirs["x"])]
        cells = [[m, f"{theirs['base'].get(m, '–')}", *(f"{v:.2f}" for v in y)] for m, y in theirs["rows"]]
        tables.append(Table(f"Paper: {theirs['title'].lower()}, over {theirs['label']}", head, cells))
    best = max(points, key=lambda p: columns[0].cells[p[1]].value.value)
    text = (
        f"Dots are means over seeds and items, dotted lines their 95 % intervals; 0 is {reference}. By its mean the overall "
        f"score is highest at {best[0]:g}: {_interval(columns[0].cells[best[1]].value)} %. Neighbouring points share seeds "
        "and items, so look at the paired differences in the table before you believe a bend."
    )
    return Section(f"Scores over {curve['label']}", text, figures, tables)


def _gains(points: Sequence[tuple[float, str]], column: Column, reference: str, curve: Mapping[str, Any]) -> str:
    """A column's paired differences from the arm of reference, which itself stands at 0."""
    known = [
        (x, column.cells[arm].against[reference].difference)
        for x, arm in points
        if reference in column.cells[arm].against
    ]
    zero = [(x, Estimate(0.0, 0, 0.0, 0.0, "")) for x, arm in points if arm == reference]
    both = sorted([*known, *zero], key=lambda pair: pair[0])
    title = f"{column.title}, points over {reference}"
    return draw(title, [_line("ours", [x for x, _ in both], [e for _, e in both])], curve["label"], log=curve["log"])


# -- Over training -----------------------------------------------------------------------------------------------------


def convergence(found: Found) -> Section | None:
    """Scores of every arm at every step at which it was scored, over steps, tokens and compute."""
    arms = [arm for arm, seeds in found.records.items() if any(len(r.get("history", ())) > 1 for r in seeds.values())]
    if not arms:
        return None
    seen = _seen(found, arms)
    steps = sorted({step for arm in arms for step in seen[arm]})
    at = {}
    for step in steps:
        then = study_tables.at_step(found, step)
        then = then._replace(records={arm: s for arm, s in then.records.items() if arm in arms})
        at[step] = study_tables.columns(then, RESAMPLES)
    titles = [c.title for c in at[steps[0]]]
    figures = []
    for axis, label in AXES.items():
        figures.append((draw(f"{titles[0]}, over {label}", _lines(at, seen, arms, 0, axis), label), tuple(arms)))
    for number, title in enumerate(titles[1:], 1):
        figures.append((draw(title, _lines(at, seen, arms, number, "step"), AXES["step"]), tuple(arms)))
    reference = found.facts["references"][0]
    others = [arm for arm in arms if arm != reference]
    if others and reference in arms:
        title = f"{titles[0]}, points over {reference}"
        lines = [_line(arm, *_paired(at, arm, reference)) for arm in others]
        figures.insert(1, (draw(title, lines, AXES["step"]), tuple(others) if len(others) > 1 else ()))
    head = ["steps", *(f"{arm}, percent" for arm in arms), *(f"{arm} against {reference}, points" for arm in others)]
    rows = []
    for step in steps:
        cells = at[step][0].cells
        row = [f"{step}", *(_interval(cells[arm].value) if arm in cells else "–" for arm in arms)]
        for arm in others:
            known = arm in cells and reference in cells[arm].against
            row.append(_gain(cells[arm].against[reference].difference) if known else "–")
        rows.append(row)
    text = "Dots are means over seeds and items, dotted lines their 95 % intervals. " + " ".join(
        _catches_up(at, arm, reference) for arm in others if reference in arms
    )
    return Section("Convergence", text, figures, [Table("Understanding, overall, at every scored step", head, rows)])


def _seen(found: Found, arms: Sequence[str]) -> dict[str, dict[int, Mapping[str, float]]]:
    """arm -> step -> the axes' values, means over seeds."""
    seen: dict[str, dict[int, Any]] = {}
    for arm in arms:
        entries: dict[int, list] = {}
        for record in found.records[arm].values():
            for entry in record.get("history", ()):
                entries.setdefault(entry["step"], []).append(entry)
        seen[arm] = {
            step: {a: float(np.mean([e[a] for e in es])) for a in AXES} for step, es in sorted(entries.items())
        }
    return seen


def _lines(at: Mapping[int, Sequence[Column]], seen: Any, arms: Sequence[str], number: int, axis: str) -> list[Line]:
    lines = []
    for arm in arms:
        steps = [step for step in seen[arm] if arm in at[step][number].cells]
        values = [at[step][number].cells[arm].value for step in steps]
        lines.append(_line(arm, [seen[arm][step][axis] for step in steps], values))
    return lines


def _paired(at: Mapping[int, Sequence[Column]], arm: str, reference: str) -> tuple[list[int], list[Estimate]]:
    """The steps at which both were scored, and the overall differences there."""
    cells = {step: columns[0].cells.get(arm) for step, columns in sorted(at.items())}
    known = {
        step: cell.against[reference].difference for step, cell in cells.items() if cell and reference in cell.against
    }
    return list(known), list(known.values())


def _catches_up(at: Mapping[int, Sequence[Column]], arm: str, reference: str) -> str:
    """When an arm's mean first is where the reference ends."""
    last = max(step for step, columns in at.items() if reference in columns[0].cells)
    goal = at[last][0].cells[reference].value.value
    reached = [
        s for s, columns in sorted(at.items()) if arm in columns[0].cells and columns[0].cells[arm].value.value >= goal
    ]
    where = f"{reference} ends at {words.amount(goal, '%')} (step {last})"
    if reached and reached[0] == 0:
        before = words.amount(at[0][0].cells[arm].value.value, "%")
        return f"{where}, no higher than before training ({before}), so there is nothing to be faster at."
    if not reached:
        return f"{where}; {arm} is at no scored step as high."
    return f"{where}; {arm} first is as high at step {reached[0]}, by its mean."


# -- Drawing -----------------------------------------------------------------------------------------------------------


def _interval(e: Estimate) -> str:
    return f"{100 * e.value:.1f} ({100 * e.low:.1f} to {100 * e.high:.1f})"


def _gain(e: Estimate) -> str:
    return f"{words.gain(e.value, '%')} ({words.gain(e.low, '%')} to {words.gain(e.high, '%')})"
