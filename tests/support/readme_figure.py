"""The README's first figure from a finished run of configs/nano_sgt.py: python -m tests.support.readme_figure WORKDIR OUT.png

Rows of held-out pictures: the photo, what the model painted before training, and what it painted afterwards; below each the
question about it, and what was answered by whom.
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


def pictures(workdir: Path) -> Shown:
    """The first pictures of the masks in the report."""
    blocks = json.loads((workdir / "results.json").read_text())["pictures"]
    (block,) = [block for block in blocks if set(ROWS) <= set(block["columns"])]
    places = {word: block["columns"].index(column) for column, word in ROWS.items()}
    chosen = block["rows"][:MOST]
    rows = {word: [np.asarray(Image.open(workdir / row[n])) for row in chosen] for word, n in places.items()}
    return Shown(rows, [lines(caption) for caption in block["captions"][:MOST]])


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
    figure = Figure(figsize=(8.5, 7.9 / columns * len(shown.rows) + 0.9), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown.rows), columns, squeeze=False)
    figure.subplots_adjust(left=0.065, right=0.998, top=0.995, bottom=0.22, wspace=0.06, hspace=0.06)
    for line, (word, row) in zip(axes, shown.rows.items()):
        line[0].text(-0.08, 0.5, word, transform=line[0].transAxes, ha="right", va="center", fontsize=11)
        for axis, picture in zip(line, row):
            axis.axis("off")
            axis.imshow(picture, interpolation="nearest")
    for axis, caption in zip(axes[-1], shown.captions):
        axis.text(0.02, -0.06, caption, transform=axis.transAxes, ha="left", va="top", fontsize=8, linespacing=1.3)
    figure.savefig(out)


if __name__ == "__main__":
    draw(pictures(Path(sys.argv[1])), Path(sys.argv[2]))
