"""The README's first figure from a finished run of configs/nano_sgt.py: python -m tests.support.readme_figure WORKDIR OUT.png

Three rows of held-out pictures: the photo, what the model painted before training, and what it painted afterwards.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROWS = {"condition": "photo", "before": "base", "after": "tuned"}  # column of the report -> words in the figure


def pictures(workdir: Path) -> dict[str, list[np.ndarray]]:
    """{word of `ROWS`: pictures uint8 [H, W, 3]} of the report's masks."""
    blocks = json.loads((workdir / "results.json").read_text())["pictures"]
    (block,) = [block for block in blocks if set(ROWS) <= set(block["columns"])]
    places = {word: block["columns"].index(column) for column, word in ROWS.items()}
    return {word: [np.asarray(Image.open(workdir / row[n])) for row in block["rows"]] for word, n in places.items()}


def draw(rows: dict[str, list[np.ndarray]], out: Path) -> None:
    """Writes the rows, each under its word, as a PNG of about 850 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows.values())
    figure = Figure(figsize=(8.5, 7.9 / columns * len(rows)), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    figure.subplots_adjust(left=0.065, right=0.998, top=0.995, bottom=0.005, wspace=0.06, hspace=0.06)
    for line, (word, row) in zip(axes, rows.items()):
        line[0].text(-0.08, 0.5, word, transform=line[0].transAxes, ha="right", va="center", fontsize=11)
        for axis in line:
            axis.axis("off")
        for axis, picture in zip(line, row):
            axis.imshow(picture, interpolation="nearest")
    figure.savefig(out)


if __name__ == "__main__":
    draw(pictures(Path(sys.argv[1])), Path(sys.argv[2]))
