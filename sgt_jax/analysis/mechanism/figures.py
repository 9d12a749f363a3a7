"""Figures of the mechanism page, as `<svg>` elements in the page's colours."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from sgt_jax.evaluation.statistics import Estimate
from sgt_jax.reporting import drawing


def word_bars(title: str, words: Sequence[str], series: Mapping[str, Sequence[Estimate]]) -> str:
    """One group of bars a kind of word, one bar a model, in percent, with intervals."""
    values = {name: [100 * e.value for e in es] for name, es in series.items()}
    ends = {name: [(100 * e.low, 100 * e.high) for e in es] for name, es in series.items()}
    return _bars(title, words, values, ends)


def plain_bars(title: str, words: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """The same without intervals, of values that are percent already."""
    return _bars(title, words, series, {})


def _bars(title: str, words: Sequence[str], series: Mapping[str, Sequence[float]], ends: Mapping[str, Sequence]) -> str:
    with matplotlib.rc_context(drawing.style(title)):
        ax = drawing.transparent_axes(4.4, 2.5)
        width = 0.8 / len(series)
        for number, (name, values) in enumerate(series.items()):
            x = np.arange(len(words)) + (number - (len(series) - 1) / 2) * width
            # Grey is what was before, so that colour is what tuning did.
            ax.bar(x, values, 0.92 * width, color=drawing.SERIES[7 if number == 0 else 0])
            tops = [high for _, high in ends.get(name, ())] or values
            for place, value, top in zip(x, values, tops, strict=True):
                ax.annotate(f"{value:.1f}", (place, top), (0, 2), textcoords="offset points", ha="center", fontsize=7)
            for place, (low, high) in zip(x, ends.get(name, ())):
                ax.plot([place] * 2, [low, high], color=matplotlib.rcParams["text.color"], linewidth=1)
        ax.set_xticks(range(len(words)), words)
        ax.tick_params(length=0)
        ax.grid(axis="y", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.margins(y=0.12)
        label = "; ".join(f"{n}: " + ", ".join(f"{w} {v:.1f}" for w, v in zip(words, vs)) for n, vs in series.items())
        return drawing.element(ax.figure, title, f"{title}. {label}")


def gain_over_alignment(proxies: Sequence[str], x: Sequence[float], gains: Sequence[Estimate], reference: str) -> str:
    """A dot a proxy: alignment score before tuning against gain in points, with the gain's interval."""
    title = "Gain over alignment"
    with matplotlib.rc_context(drawing.style(title)):
        ax = drawing.transparent_axes(5.2, 3.4)
        below = set(np.argsort(x, kind="stable")[1::2].tolist())  # neighbours' names on either side of their dots
        for number, (proxy, place, gain) in enumerate(zip(proxies, x, gains, strict=True)):
            ax.plot([place] * 2, [100 * gain.low, 100 * gain.high], color=drawing.SERIES[0], linewidth=1, alpha=0.5)
            ax.plot(place, 100 * gain.value, "o", color=drawing.SERIES[0], markersize=5)
            offset = (5, -10) if number in below else (5, 3)
            ax.annotate(proxy, (place, 100 * gain.value), offset, textcoords="offset points", fontsize=8)
        for line in (ax.axhline, ax.axvline):
            line(0, color=matplotlib.rcParams["text.color"], linewidth=0.7)
        ax.grid(linewidth=0.5)
        ax.margins(x=0.18, y=0.1)
        ax.tick_params(length=0)
        ax.set_xlabel("alignment with understanding before tuning (score)")
        ax.set_ylabel(f"overall understanding, points over {reference}")
        label = "; ".join(f"{p}: {v:.2f}, {100 * g.value:+.1f}" for p, v, g in zip(proxies, x, gains))
        return drawing.element(ax.figure, title, f"{title}. {label}")
