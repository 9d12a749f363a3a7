"""The analyses' pictures: heat maps with their numbers printed, bars, and scatter plots; matplotlib without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

# Two classes, two checkpoints: apart in hue and in brightness, for the colour-blind and for paper.
PAIR = ("#2b6cb0", "#e07a1f")
SEVERAL = ("#2b6cb0", "#e07a1f", "#4c9f70", "#b04a7b", "#8a8a8a")


def scatter(path: Path, panels: Sequence[Sequence[tuple[str, np.ndarray]]], labels: np.ndarray,
            classes: Sequence[str], title: str) -> None:  # fmt: skip
    """Writes a grid of maps: `panels[row][column]` is (caption, points [n, 2]); classes differ in colour and marker."""
    rows, columns = len(panels), len(panels[0])
    figure = Figure(figsize=(2.6 * columns + 0.4, 2.9 * rows + 0.6), layout="constrained")
    for axes, (caption, points) in zip(np.ravel(figure.subplots(rows, columns, squeeze=False)), sum(panels, [])):
        for number, (name, marker) in enumerate(zip(classes, "o^")):
            x, y = points[labels == number].T
            axes.scatter(x, y, s=14, c=PAIR[number], marker=marker, alpha=0.75, linewidths=0, label=name)
        axes.set(xticks=[], yticks=[], title=caption)
        axes.title.set_fontsize(8.5)
        axes.spines[:].set_color("#cccccc")
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)


def heat_maps(path: Path, maps: Mapping[str, np.ndarray], *, rows: Sequence[str], columns: Sequence[str], xlabel: str,
              signed: Sequence[str] = (), form: str = "{:.1f}", title: str = "") -> None:  # fmt: skip
    """Writes one heat map [rows, columns] below the other, numbers in the cells; those in `signed` are centred on 0."""
    height = sum(0.42 * len(rows) + 0.75 for _ in maps) + 0.7
    figure = Figure(figsize=(max(0.55 * len(columns) + 2.2, 5.0), height), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(len(maps), 1, squeeze=False)[:, 0], maps.items()):
        finite = np.abs(values[np.isfinite(values)])
        top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
        low, colours = (-top, "RdBu_r") if name in signed else (0.0, "Blues")
        axes.imshow(values, cmap=colours, vmin=low, vmax=top, aspect="auto")
        for (r, c), value in np.ndenumerate(values):
            dark = abs(value) > 0.6 * top
            text = form.format(value) if np.isfinite(value) else "-"
            axes.text(c, r, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "#222222")
        axes.set_xticks(range(len(columns)), columns, fontsize=8)
        axes.set_yticks(range(len(rows)), rows, fontsize=8)
        axes.set_title(name, fontsize=9, loc="left")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    axes.set_xlabel(xlabel, fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)


def bars(path: Path, groups: Sequence[str], series: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], *,
         ylabel: str, title: str, zero: bool = False) -> None:  # fmt: skip
    """Writes bars with intervals: `series[name]` is (value, low, high), each [groups]."""
    figure = Figure(figsize=(max(1.1 * len(groups) + 1.6, 4.4), 3.3), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(series)
    for number, (name, (value, low, high)) in enumerate(series.items()):
        x = np.arange(len(groups)) + (number - (len(series) - 1) / 2) * width
        error = np.maximum(np.stack([value - low, high - value]), 0)
        axes.bar(x, value, 0.92 * width, color=SEVERAL[number % len(SEVERAL)], label=name)
        axes.errorbar(x, value, error, fmt="none", ecolor="#333333", elinewidth=1, capsize=2.5)
        for place, v, top in zip(x, value, np.maximum(high, value)):
            axes.annotate(
                f"{v:.2f}" if zero else f"{v:.1f}", (place, max(top, 0)), (0, 2), textcoords="offset points",
                ha="center", va="bottom", fontsize=7,
            )  # fmt: skip
    if zero:
        axes.axhline(0, color="#333333", linewidth=0.8)
    axes.set_xticks(range(len(groups)), groups, fontsize=8.5)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.margins(y=0.14)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=130)
