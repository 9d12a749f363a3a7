"""The curves of a study's report: scores over what its arms are ordered by, and over training.

A study with `curve` in its config (`label`, `log`, `points`: arm -> x, `paper`: a key of assets/report/paper.json) has its
arms on an axis; one with `history` was scored along the way (see `history.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.evaluation.statistics import Estimate
from sgt_jax.reporting import words
from sgt_jax.study import tables
from sgt_jax.study.figures import Line, draw_lines, percent_line
from sgt_jax.study.tables import Column, Results

RESAMPLES = 500  # at every step of a run: fewer than for a table
# What a run had seen or computed at a step, by which its curve can be drawn.
AXES = {
    "step": "steps",
    "answer_tokens": "understanding tokens (supervised)",
    "slots": "decoder slots computed",
}


ByStep = Mapping[int, Sequence[Column]]  # step -> all scores as they were there, the overall one first
Seen = Mapping[str, Mapping[int, Mapping[str, float]]]  # arm -> step -> axis -> value


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


def sections(results: Results, columns: Sequence[Column], paper: Mapping[str, Any]) -> list[Section]:
    """What the study and its results so far allow."""
    made = []
    if results.facts.get("curve"):
        made.append(ordered(results, columns, paper))
    if any("history" in record for seeds in results.records.values() for record in seeds.values()):
        made.append(convergence(results))
    return [section for section in made if section is not None]


# -- Arms on an axis ---------------------------------------------------------------------------------------------------


def ordered(results: Results, columns: Sequence[Column], paper: Mapping[str, Any]) -> Section | None:
    """Every score over the axis of the study's arms, and the paper's curve with it; None with fewer than two arms."""
    curve, reference = results.facts["curve"], results.facts["references"][0]
    points = sorted((x, arm) for arm, x in curve["points"].items() if arm in results.records)
    if len(points) < 2:
        return None
    xs, overall = [x for x, _ in points], columns[0]
    figures = []
    for column in columns:
        line = percent_line("ours", xs, [column.cells[arm].value for _, arm in points])
        figures.append((draw_lines(column.title, [line], curve["label"], log=curve["log"]), ("ours",)))
    figures.insert(1, (_gains(points, overall, reference, curve), ("ours",)))
    printed = [_table_over_axis(points, overall, reference, curve)]
    if theirs := paper.get("curves", {}).get(curve["paper"]):
        figure, table = _paper_curve(theirs)
        figures.insert(2, figure)
        printed.append(table)
    best, best_arm = max(points, key=lambda point: overall.cells[point[1]].value.value)
    text = (
        f"Dots are means over seeds and items, dotted lines their 95 % intervals; 0 is {reference}. By its mean the overall "
        f"score is highest at {best:g}: {_interval(overall.cells[best_arm].value)} %. Neighbouring points share seeds "
        "and items, so look at the paired differences in the table before you believe a bend."
    )
    return Section(f"Scores over {curve['label']}", text, figures, printed)


def _table_over_axis(
    points: Sequence[tuple[float, str]], column: Column, reference: str, curve: Mapping[str, Any]
) -> Table:
    """A column's values, and its paired differences from the arm of reference, point by point."""
    rows = []
    for x, arm in points:
        cell = column.cells[arm]
        difference = _gain(cell.against[reference].difference) if reference in cell.against else "–"
        rows.append([f"{x:g}", _interval(cell.value), difference])
    head = [curve["label"], "overall, percent", f"against {reference}, points"]
    return Table("Ours: understanding, overall", head, rows)


def _paper_curve(theirs: Mapping[str, Any]) -> tuple[tuple[str, Sequence[str]], Table]:
    """The paper's curve as a figure with the names of its lines, and as a table."""
    unknown = [np.nan] * len(theirs["x"])
    lines = [Line(f"paper, {model}", theirs["x"], y, unknown, unknown) for model, y in theirs["rows"]]
    title = f"Paper: {theirs['title'].lower()}"
    svg = draw_lines(title, lines, theirs["label"], log=theirs["log"])
    head = ["model", "base", *(f"{x:,}" for x in theirs["x"])]
    rows = [[model, f"{theirs['base'].get(model, '–')}", *(f"{v:.2f}" for v in y)] for model, y in theirs["rows"]]
    return (svg, tuple(line.name for line in lines)), Table(f"{title}, over {theirs['label']}", head, rows)


def _gains(points: Sequence[tuple[float, str]], column: Column, reference: str, curve: Mapping[str, Any]) -> str:
    """A column's paired differences from the arm of reference, which itself stands at 0."""
    gains = []
    for x, arm in points:
        against = column.cells[arm].against
        if arm == reference:
            gains.append((x, Estimate(0.0, 0, 0.0, 0.0, "")))
        elif reference in against:
            gains.append((x, against[reference].difference))
    line = percent_line("ours", [x for x, _ in gains], [gain for _, gain in gains])
    return draw_lines(f"{column.title}, points over {reference}", [line], curve["label"], log=curve["log"])


# -- Over training -----------------------------------------------------------------------------------------------------


def convergence(results: Results) -> Section | None:
    """Scores of every arm at every step at which it was scored, over steps, tokens and compute; None without such."""
    arms = [arm for arm, seeds in results.records.items() if any(len(r.get("history", ())) > 1 for r in seeds.values())]
    if not arms:
        return None
    seen = _seen(results, arms)
    by_step = {}
    for step in sorted({step for arm in arms for step in seen[arm]}):
        then = tables.at_step(results, step)
        then = then._replace(records={arm: seeds for arm, seeds in then.records.items() if arm in arms})
        by_step[step] = tables.columns(then, RESAMPLES)
    reference = results.facts["references"][0]
    figures = _convergence_figures(by_step, seen, arms, reference)
    table = _convergence_table(by_step, arms, reference)
    text = "Dots are means over seeds and items, dotted lines their 95 % intervals. " + " ".join(
        _catches_up(by_step, arm, reference) for arm in arms if arm != reference and reference in arms
    )
    return Section("Convergence", text, figures, [table])


def _convergence_figures(by_step: ByStep, seen: Seen, arms: Sequence[str], reference: str) -> list:
    """The overall score over each axis and as differences from the reference, then the other scores over steps."""
    overall, *others = (column.title for column in next(iter(by_step.values())))
    figures = []
    for axis, label in AXES.items():
        lines = _lines(by_step, seen, arms, 0, axis)
        figures.append((draw_lines(f"{overall}, over {label}", lines, label), tuple(arms)))
    rivals = tuple(arm for arm in arms if arm != reference)
    if rivals and reference in arms:
        lines = [percent_line(arm, *_paired(by_step, arm, reference)) for arm in rivals]
        svg = draw_lines(f"{overall}, points over {reference}", lines, AXES["step"])
        figures.insert(1, (svg, rivals if len(rivals) > 1 else ()))
    for number, title in enumerate(others, 1):
        lines = _lines(by_step, seen, arms, number, "step")
        figures.append((draw_lines(title, lines, AXES["step"]), tuple(arms)))
    return figures


def _convergence_table(by_step: ByStep, arms: Sequence[str], reference: str) -> Table:
    """The overall score of each arm, and its differences from the reference, a row a step."""
    rivals = [arm for arm in arms if arm != reference]
    rows = []
    for step, (overall, *_) in by_step.items():
        cells = overall.cells
        row = [f"{step}", *(_interval(cells[arm].value) if arm in cells else "–" for arm in arms)]
        for arm in rivals:
            known = arm in cells and reference in cells[arm].against
            row.append(_gain(cells[arm].against[reference].difference) if known else "–")
        rows.append(row)
    head = ["steps", *(f"{arm}, percent" for arm in arms), *(f"{arm} against {reference}, points" for arm in rivals)]
    return Table("Understanding, overall, at every scored step", head, rows)


def _seen(results: Results, arms: Sequence[str]) -> Seen:
    """The axes' values of every arm at every step, means over seeds."""
    seen = {}
    for arm in arms:
        entries: dict[int, list] = {}
        for record in results.records[arm].values():
            for entry in record.get("history", ()):
                entries.setdefault(entry["step"], []).append(entry)
        seen[arm] = {
            step: {a: float(np.mean([e[a] for e in es])) for a in AXES} for step, es in sorted(entries.items())
        }
    return seen


def _lines(by_step: ByStep, seen: Seen, arms: Sequence[str], number: int, axis: str) -> list[Line]:
    """The column of this number as a line an arm, over an axis."""
    lines = []
    for arm in arms:
        steps = [step for step in seen[arm] if arm in by_step[step][number].cells]
        values = [by_step[step][number].cells[arm].value for step in steps]
        lines.append(percent_line(arm, [seen[arm][step][axis] for step in steps], values))
    return lines


def _paired(by_step: ByStep, arm: str, reference: str) -> tuple[list[int], list[Estimate]]:
    """The steps at which both were scored, and the overall differences there."""
    cells = {step: columns[0].cells.get(arm) for step, columns in sorted(by_step.items())}
    known = {
        step: cell.against[reference].difference for step, cell in cells.items() if cell and reference in cell.against
    }
    return list(known), list(known.values())


def _catches_up(by_step: ByStep, arm: str, reference: str) -> str:
    """When an arm's mean first is where the reference ends."""
    last = max(step for step, columns in by_step.items() if reference in columns[0].cells)
    goal = by_step[last][0].cells[reference].value.value
    reached = [
        s
        for s, columns in sorted(by_step.items())
        if arm in columns[0].cells and columns[0].cells[arm].value.value >= goal
    ]
    where = f"{reference} ends at {words.amount(goal, '%')} (step {last})"
    if reached and reached[0] == 0:
        before = words.amount(by_step[0][0].cells[arm].value.value, "%")
        return f"{where}, no higher than before training ({before}), so there is nothing to be faster at."
    if not reached:
        return f"{where}; {arm} is at no scored step as high."
    return f"{where}; {arm} first is as high at step {reached[0]}, by its mean."


# -- Numbers -----------------------------------------------------------------------------------------------------------


def _interval(e: Estimate) -> str:
    return f"{100 * e.value:.1f} ({100 * e.low:.1f} to {100 * e.high:.1f})"


def _gain(e: Estimate) -> str:
    return f"{words.gain(e.value, '%')} ({words.gain(e.low, '%')} to {words.gain(e.high, '%')})"
