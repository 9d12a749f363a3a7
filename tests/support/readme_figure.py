"""Held-out pictures of a finished run as one figure: python -m tests.support.readme_figure WORKDIR OUT.png [COLUMN=WORD ...]

Without columns it is the README's first figure, of configs/nano_sgt.py: the photo, what the model painted before training,
and what it painted afterwards; below each the question about it, and what was answered by whom. With columns of the report,
each with the word that stands beside its row, there are no questions: docs/figures/nano_omnigen2_masks.png is
`condition=photo target=masks after=painted` of a run of configs/nano_omnigen2.py.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROWS = {"condition": "photo", "before": "base", "after": "tuned"}  # column of the report -> words in the figure
MOST = 8  # pictures side by side


class Shown(NamedTuple):
    """`rows` {word of `ROWS`: pictures uint8 [H, W, 3]}, `captions` a line of text a picture."""

    rows: dict[str, list[np.ndarray]]
    captions: list[str]


def pictures(workdir: Path, wanted: dict[str, str]) -> Shown:
    """The first pictures of the masks in the report; `wanted` as `ROWS`."""
    blocks = json.loads((workdir / "results.json").read_text())["pictures"]
    block = next(block for block in blocks if set(wanted) <= set(block["columns"]))
    places = {word: block["columns"].index(column) for column, word in wanted.items()}
    chosen = block["rows"][:MOST]
    rows = {word: [np.asarray(Image.open(workdir / row[n])) for row in chosen] for word, n in places.items()}
    return Shown(rows, [lines(caption) if wanted == ROWS else "" for caption in block["captions"][:MOST]])


def lines(caption: str) -> str:
    """A question with its answers, as on the page, in short lines."""
    question, _, said = caption.partition(") ")
    asked, _, answer = question.partition("? (")
    which = next(word for word in ("highest", "lowest") if word in asked)
    return "\n".join([f"{which}: {answer}", *said.replace("before:", "base:").replace("after:", "SGT:").split("; ")])


def draw(shown: Shown, out: Path) -> None:
    """Writes the rows, each beside its word, and the captions, as a PNG of about 850 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(shown.captions)
    below = 0.9 if any(shown.captions) else 0.05  # inches
    height = 7.9 / columns * len(shown.rows) + below
    figure = Figure(figsize=(8.5, height), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown.rows), columns, squeeze=False)
    left = 0.013 * max(map(len, shown.rows))
    figure.subplots_adjust(left=left, right=0.998, top=0.995, bottom=below / height, wspace=0.06, hspace=0.06)
    for line, (word, row) in zip(axes, shown.rows.items()):
        line[0].text(-0.08, 0.5, word, transform=line[0].transAxes, ha="right", va="center", fontsize=11)
        for axis, picture in zip(line, row):
            axis.axis("off")
            axis.imshow(picture, interpolation="nearest")
    for axis, caption in zip(axes[-1], shown.captions):
        axis.text(0.02, -0.06, caption, transform=axis.transAxes, ha="left", va="top", fontsize=8, linespacing=1.3)
    figure.savefig(out)


if __name__ == "__main__":
    workdir, out, *columns = sys.argv[1:]
    draw(pictures(Path(workdir), dict(column.split("=") for column in columns) or ROWS), Path(out))
