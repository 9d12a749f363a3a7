"""Figures of a study: forest plots of what each arm gains, and lines with intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.ticker import EngFormatter, NullLocator

from sgt_jax.evaluation.statistics import Contrast, Estimate
from sgt_jax.reporting import drawing, forest
from sgt_jax.reporting.words import verdict
from sgt_jax.study.tables import Column, Results


def gain_forests(results: Results, columns: Sequence[Column], reference: str) -> list[tuple[str, str]]:
    """(title, `<svg>`) of every score: what each arm gains over the arm of reference, the largest gain first."""
    plots = []
    for column in columns:
        contrasts = {arm: c.against[reference] for arm, c in column.cells.items() if reference in c.against}
        order = sorted(contrasts, key=lambda arm: -contrasts[arm].difference.value)
        if order:
            rows = [forest.Row(arm, contrasts[arm].difference, judged(contrasts[arm])) for arm in order]
            # The title tells plots apart: two scores of a study may have the same title.
            plots.append((column.title, forest.draw(f"{column.name}: {column.title}, points over {reference}", rows)))
    return plots


def judged(contrast: Contrast) -> str:
    """The verdict on an arm; "" with one seed, whose interval says nothing about other runs."""
    return verdict(contrast.difference) if contrast.seeds > 1 else ""


# -- Lines -------------------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """One line with its band; `low` and `high` are NaN where there is no interval."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def percent_line(name: str, x: Sequence[float], values: Sequence[Estimate]) -> Line:
    """Estimates as fractions -> a line in percent."""
    return Line(name, x, *([100 * getattr(e, end) for e in values] for end in ("value", "low", "high")))


def draw_lines(title: str, lines: Sequence[Line], xlabel: str, *, log: bool = False) -> str:
    """Lines with bands as an `<svg>` element; on a logarithmic axis 0 stands apart at the left, marked as such."""
    with matplotlib.rc_context(drawing.style(title)):
        ax = drawing.transparent_axes(3.7, 2.3)
        places = _log_places([x for line in lines for x in line.x]) if log else {}
        for number, line in enumerate(lines):
            colour = drawing.SERIES[number % len(drawing.SERIES)]
            x = np.array([places.get(v, v) for v in line.x], float)
            ax.plot(x, line.y, color=colour, linewidth=1.6, marker="o", markersize=3.4)
            if np.isfinite(line.low).any():
                # Edges and not a filled band: a page in the dark has other colours, and two bands would hide each other.
                for edge in (line.low, line.high):
                    ax.plot(x, edge, color=colour, linewidth=0.7, alpha=0.6, linestyle=(0, (2, 2)))
        if log:
            ax.set_xscale("log")
            ax.set_xticks(list(places.values()), [_short(v) for v in places])
            ax.xaxis.set_minor_locator(NullLocator())
        elif max(x for line in lines for x in line.x) >= 1000:
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.grid(axis="y", linewidth=0.6)
        ax.tick_params(length=0)
        ax.set_xlabel(xlabel)
        ax.set_title(title, fontsize=9, loc="left")
        ends = "; ".join(f"{li.name}: " + ", ".join(f"{x:g} {y:.1f}" for x, y in zip(li.x, li.y)) for li in lines)
        return drawing.element(ax.figure, title, f"{title}. {ends}")


def _log_places(values: Sequence[float]) -> dict[float, float]:
    """Where each value stands on a logarithmic axis; 0 one typical step left of the smallest other one."""
    known = sorted({v for v in values if v > 0})
    gap = (known[-1] / known[0]) ** (1 / max(len(known) - 1, 1)) if len(known) > 1 else 10.0
    return ({0.0: known[0] / gap} if 0 in values else {}) | {v: v for v in known}


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
