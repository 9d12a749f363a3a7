"""Curves of a run as small SVG drawings in the colours of their page, light or dark."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, StrMethodFormatter

from sgt_jax.reporting.drawing import SERIES, element, style, transparent_axes

_POINTS = 400  # more are not visible at this size
_SMOOTH_FROM = 40  # points


class Series(NamedTuple):
    """One curve: `x` and `y` float [n], with NaN where nothing is known."""

    name: str
    x: np.ndarray
    y: np.ndarray


class Curve(NamedTuple):
    """A drawing for the page: `svg` is an `<svg>` element, `names` its series in the order of the page's colours."""

    title: str
    svg: str
    names: tuple[str, ...]
    note: str = ""


# Training curves in the order they are shown: title, names in metrics.jsonl ("/" at the end: all that begin so), scale.
_TRAINING = (
    ("Loss", "loss", "linear"),
    ("Cross entropy of the answers", "ce", "linear"),
    ("Flow-matching error of the pictures", "mse", "linear"),
    ("Gradient norm", "grad_norm", "log"),
    ("Learning rate", "lr", "linear"),
    ("Tokens per second", "tokens_per_second", "zero"),
    ("Samples per step", "samples/", "zero"),
    ("Lane fill", "fill/", "fraction"),
    ("Waiting for data", "data_wait", "fraction"),
)


def training_curves(lines: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """The curves of the training lines of `metrics.jsonl`; what was never logged is left out."""
    train = [line for line in lines if line["kind"] == "train"]
    drawn = []
    for title, key, scale in _TRAINING:
        names = _names(train, key) if key.endswith("/") else [key]
        series = [s for s in (_series(train, name, name.removeprefix(key)) for name in names) if len(s.x) > 1]
        if series:
            drawn.append(draw_curve(title, series, scale=scale, smooth=scale != "fraction" and key != "lr"))
    return drawn


def score_curves(lines: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """The scores at every evaluation: one drawing per first part of the name ("answers/count" is in "answers")."""
    lines = [line for line in lines if line["kind"] != "train"]
    drawn = []
    for group in dict.fromkeys(name.split("/")[0] for name in _names(lines, "")):
        names = [n for n in _names(lines, "") if n.split("/")[0] == group]
        series = [_series(lines, name, (name.partition("/")[2] or name).replace("_", " ")) for name in names]
        series = [s for s in series if len(s.x) > 1]
        if series:
            drawn.append(draw_curve(group.replace("_", " "), series, points=True))
    return drawn


def draw_curve(
    title: str, series: Sequence[Series], *, scale: str = "linear", smooth: bool = False, points: bool = False
) -> Curve:
    """Draws series over steps.

    Arguments:
      title: also becomes the drawing's text for people who do not see it.
      series: at most as many as there are colours are drawn; the note says how many were left out.
      scale: "linear", "log", "zero" (linear from zero on), or "fraction" (the same, in percent).
      smooth: show the single values faintly and a running mean on top, where there are many.
      points: mark every value.
    """
    left_out = len(series) - len(SERIES)
    series = series[: len(SERIES)]
    with matplotlib.rc_context(style(title)):
        axes = transparent_axes(3.7, 2.0)
        axes.grid(axis="y", linewidth=0.6)
        axes.tick_params(length=0)
        for s, colour in zip(series, SERIES):
            s = _thin(s)
            smoothed = smooth and len(s.x) >= _SMOOTH_FROM
            axes.plot(
                s.x,
                s.y,
                color=colour,
                linewidth=0.8 if smoothed else 1.6,
                alpha=0.3 if smoothed else 1.0,
                marker="o" if points else None,
                markersize=3.2,
                clip_on=not points,
            )
            if smoothed:
                axes.plot(s.x, _running_mean(s.y), color=colour, linewidth=1.8)
        _scale(axes, scale)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(0, max(s.x[-1] for s in series))
        axes.margins(y=0.08)
        last = "; ".join(f"{s.name} ends at {s.y[-1]:.4g}" for s in series)
        svg = element(axes.figure, title, f"{title}: {last}")
    note = f"{left_out} more in metrics.jsonl" if left_out > 0 else ""
    return Curve(title, svg, tuple(s.name for s in series), note)


def _scale(axes: Axes, scale: str) -> None:
    """Range and labels of the y axis, by the scales that `draw_curve` knows."""
    top = axes.dataLim.y1
    if scale == "log":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.minorticks_off()
        return
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if scale == "fraction":
        top = max(0.01, min(1.0, 1.1 * top))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.3g}%"))
        axes.set_ylim(0, top)
    elif scale == "zero":
        axes.set_ylim(0, 1.1 * top)
    if top >= 1000:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))


def _names(lines: Sequence[Mapping[str, Any]], prefix: str) -> list[str]:
    """Names of values that begin so, in the order they first appear."""
    known = {"step", "kind", "seconds"}
    return list(dict.fromkeys(n for line in lines for n in line if n.startswith(prefix) and n not in known))


def _series(lines: Sequence[Mapping[str, Any]], key: str, name: str) -> Series:
    """One value over steps. What was not finite is null in the file and a gap in the curve."""
    pairs = [(line["step"], np.nan if line[key] is None else line[key]) for line in lines if key in line]
    x, y = np.array(pairs, np.float64).reshape(-1, 2).T
    return Series(name, x, y)


def _thin(s: Series) -> Series:
    """At most `_POINTS` points, each the mean of its neighbourhood."""
    stride = -(-len(s.x) // _POINTS)
    if stride == 1:
        return s
    starts = np.arange(0, len(s.x), stride)
    counts = np.diff(np.append(starts, len(s.x)))
    return Series(s.name, *(np.add.reduceat(v, starts) / counts for v in (s.x, s.y)))


def _running_mean(y: np.ndarray) -> np.ndarray:
    """Mean over a window of a twentieth of the curve, shorter at both ends; gaps do not count."""
    half = max(1, len(y) // 40)
    known = np.isfinite(y)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, y, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    low = np.maximum(np.arange(len(y)) - half, 0)
    high = np.minimum(np.arange(len(y)) + half + 1, len(y))
    total = (counts[high] - counts[low]).astype(np.float64)
    return np.divide(sums[high] - sums[low], total, out=np.full(len(y), np.nan), where=total > 0)
