"""Forest plots: one line a score or an arm, a dot with its interval, in the colour of its verdict."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib

from sgt_jax.evaluation.statistics import Estimate
from sgt_jax.reporting import drawing
from sgt_jax.reporting.words import amount, gain

_INCHES = 3.7  # wide; a page shows it at up to twice that
_LONGEST = 30  # letters of a name


class Row(NamedTuple):
    """One line: its name, the estimate as a score has it, and "better", "worse", "same" or "" (no verdict)."""

    name: str
    estimate: Estimate
    verdict: str = ""


def draw(title: str, rows: Sequence[Row], unit: str = "%", *, differences: bool = True, xlabel: str = "") -> str:
    """The plot as an `<svg>` element; rows stand in the given order.

    Arguments:
      title: tells plots of one page apart, and begins the text for people who do not see it.
      unit: as in `statistics.Score`; rates are drawn in points.
      differences: from something, which a line at zero stands for; else values.
    """
    scale = 100 if unit == "%" else 1
    write = gain if differences else amount
    with matplotlib.rc_context(drawing.style(title)):
        ax = drawing.transparent_axes(_INCHES, 0.55 + 0.23 * len(rows))
        for number, row in enumerate(rows):
            e, colour = row.estimate, drawing.VERDICTS[row.verdict]
            ax.plot([scale * e.low, scale * e.high], [number] * 2, color=colour, linewidth=1.8, solid_capstyle="butt")
            # Hollow where nothing is said: colour alone would not do.
            face = "none" if row.verdict == "same" else colour
            ax.plot(scale * e.value, number, "o", color=colour, markersize=4.8, markerfacecolor=face)
            text = write(e.value, unit).replace("\N{NO-BREAK SPACE}%", "")
            ax.annotate(text, (1.02, number), xycoords=("axes fraction", "data"), va="center")
        if differences:
            ax.axvline(0, color=matplotlib.rcParams["text.color"], linewidth=0.8, zorder=0)
        ax.set_yticks(range(len(rows)), [_short(row.name) for row in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.tick_params(length=0)
        ax.grid(axis="x", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.locator_params(axis="x", nbins=5)
        if xlabel:
            ax.set_xlabel(xlabel)
        told = "; ".join(f"{r.name} {_told(r.estimate, unit, write)}{_judged(r.verdict)}" for r in rows)
        return drawing.element(ax.figure, title, f"{title}: {told}")


def _told(e: Estimate, unit: str, write) -> str:
    return f"{write(e.value, unit)}, {write(e.low, unit)} to {write(e.high, unit)}"


def _judged(verdict: str) -> str:
    words = {"better": "better", "worse": "worse", "same": "no measurable difference"}
    return f" ({words[verdict]})" if verdict else ""


def _short(name: str) -> str:
    """A name that fits: without what stands in brackets where it is too long, and cut where that is not enough."""
    name = name if len(name) <= _LONGEST else name.split(" (")[0]
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
