"""Figures of a study: a radar and bars of what each arm gains, and lines with intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.ticker import EngFormatter, NullLocator

from sgt_jax.evaluation.statistics import Estimate
from sgt_jax.reporting import drawing
from sgt_jax.study.tables import Column, Results


def gain_figures(results: Results, columns: Sequence[Column]) -> list[str]:
    """The radar of understanding gains and the bars of every score's gain, both over the last arm of reference."""
    base = results.facts["references"][-1]
    arms = [arm for arm in results.records if any(base in c.cells[arm].against for c in columns)]
    if not arms:
        return []
    axes = [c for c in columns if c.name in results.facts["understanding"]]
    return [radar(arms, axes, base), *(bars(arms, c, base) for c in columns)]


def radar(arms: Sequence[str], axes: Sequence[Column], base: str) -> str:
    """Gains over `base` in points, one polygon an arm, as in the paper's figure."""
    title = f"Understanding, points over {base}"
    angles = np.linspace(0, 2 * np.pi, len(axes), endpoint=False)
    with matplotlib.rc_context(drawing.style(title)):
        ax = drawing.transparent_axes(4.6, 4.0, projection="polar")
        ax.set_theta_offset(np.pi / 2)
        gains = {arm: [100 * c.cells[arm].against[base].difference.value for c in axes] for arm in arms}
        for number, (arm, values) in enumerate(gains.items()):
            colour = drawing.SERIES[number % len(drawing.SERIES)]
            ax.plot(np.append(angles, angles[0]), [*values, values[0]], color=colour, linewidth=1.6, label=arm)
        low, high = min(map(min, gains.values())), max(map(max, gains.values()))
        ax.set_ylim(min(low, 0) - 0.15 * max(high - low, 1), max(high, 0) + 0.05 * max(high - low, 1))
        ax.plot(np.linspace(0, 2 * np.pi, 100), np.zeros(100), color=matplotlib.rcParams["text.color"], linewidth=0.9)
        ax.set_xticks(angles, [c.title for c in axes])
        label = "; ".join(f"{arm}: " + ", ".join(f"{v:+.1f}" for v in values) for arm, values in gains.items())
        return drawing.element(ax.figure, title, f"{title}. {label}")


def bars(arms: Sequence[str], column: Column, base: str) -> str:
    """One bar an arm: gain over `base` with its interval."""
    title = f"{column.title}, points over {base}"
    known = [arm for arm in arms if base in column.cells[arm].against]
    with matplotlib.rc_context(drawing.style(title)):
        ax = drawing.transparent_axes(3.7, 0.5 + 0.24 * len(known))
        for number, arm in enumerate(known):
            d = column.cells[arm].against[base].difference
            ax.barh(number, 100 * d.value, color=drawing.SERIES[number % len(drawing.SERIES)], height=0.7)
            ax.plot([100 * d.low, 100 * d.high], [number] * 2, color=matplotlib.rcParams["text.color"], linewidth=1.1)
        ax.axvline(0, color=matplotlib.rcParams["text.color"], linewidth=0.8)
        ax.set_yticks(range(len(known)), known)
        ax.invert_yaxis()
        ax.tick_params(length=0)
        ax.grid(axis="x", linewidth=0.6)
        ax.set_title(title, fontsize=9, loc="left")
        values = [100 * column.cells[arm].against[base].difference.value for arm in known]
        label = ", ".join(f"{arm} {v:+.1f}" for arm, v in zip(known, values, strict=True))
        return drawing.element(ax.figure, title, f"{title}: {label}")


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
