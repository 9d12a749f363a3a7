"""Figures of a study: forest plots of what each arm gains, and lines with intervals."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullLocator

from sgt_jax.evaluation.statistics import Contrast, Estimate
from sgt_jax.reporting import drawing, forest
from sgt_jax.reporting.words import verdict
from sgt_jax.study.registered import Registered
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


def contrasts_picture(
    path: str | os.PathLike, found: Sequence[Registered], title: str, margin: float, words: Mapping[str, str]
) -> None:  # fmt: skip
    """Writes a picture of paired differences in points: a dot a seed, their mean with its interval, the margin as a band.

    Args:
      found: the contrasts, from top to bottom; words: contrast -> what it holds equal, under its arms.
    """
    figure = Figure(figsize=(7.2, 0.85 * len(found) + 1.1), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-margin, margin, color="#eeeeee", linewidth=0)
    axes.axvline(0, color="#888888", linewidth=0.8)
    for row, c in enumerate(found):
        axes.plot(c.differences, [row - 0.2] * c.seeds, "o", color="#7fa8d1", markersize=4, alpha=0.8, markeredgewidth=0)
        axes.plot((c.low, c.high), (row + 0.12,) * 2, color="#1d4f84", linewidth=2.2, solid_capstyle="butt")
        axes.plot(c.points, row + 0.12, "D", color="#1d4f84", markersize=5)
        numbers = f"{c.points:+.1f} ({c.low:+.1f} to {c.high:+.1f})"
        axes.annotate(numbers, (c.points, row + 0.12), (0, -13), textcoords="offset points", ha="center", fontsize=8.5)
    labels = [f"{c.arm} \N{MINUS SIGN} {c.against}\n{words.get(c.name, '')}".strip() for c in found]
    axes.set_yticks(range(len(found)), labels, fontsize=9)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel(f"points; a dot is a seed, grey is within {margin:g} points", fontsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, fontsize=10, loc="left")
    figure.savefig(path, dpi=130)


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
