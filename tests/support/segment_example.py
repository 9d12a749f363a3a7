"""Which held-out scenes do all seeds segment right? python -m tests.support.segment_example [STUDY:ARM] [--scene N OUT.png]

It reads the committed results of one arm of a study, no model; without an argument of the first study's arm `segmentation`
(proxies:segmentation, five seeds, 300 steps). A scene is right if every true part is matched by a painted one with an IoU
above a half and nothing else is painted: then panoptic quality is the mean IoU.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sgt_jax.data.examples import Example
from sgt_jax.data.sources import open_source
from tests.support.paths import REPOSITORY

FIRST = "proxies:segmentation"
ROUNDED = 1e-3  # results are kept to four places


class Scenes(NamedTuple):
    """`right` bool [seeds, scenes], `iou` [seeds, scenes] the mean IoU, `parts` how many each scene has."""

    right: np.ndarray
    iou: np.ndarray
    parts: list[int]


def folder(which: str = FIRST) -> Path:
    """The results of STUDY:ARM."""
    return REPOSITORY / "docs/results" / which.partition(":")[0]


def source(which: str = FIRST) -> Sequence[Example]:
    """The held-out scenes that the study's masks were painted from."""
    base = json.loads((folder(which) / "study.json").read_text())["base"]
    spec = base["data"]["sources"][base["evaluators"]["masks"]["source"]]
    return open_source({name: tuple(v) if isinstance(v, list) else v for name, v in spec.items()})


def read(which: str = FIRST) -> Scenes:
    """What each seed made of every scene."""
    paths = sorted((folder(which) / "runs").glob(f"{which.partition(':')[2]}_[0-9]*.json"))
    masks = [json.loads(path.read_text())["items"]["masks"] for path in paths]
    iou, pq = (np.array([m[name] for m in masks], float) for name in ("miou", "pq"))
    scenes = source(which)
    return Scenes((pq > 0) & (np.abs(pq - iou) < ROUNDED), iou, [len(scenes[i].masks) for i in range(iou.shape[1])])


def main(arguments: list[str]) -> None:
    """Prints the counts and the scenes that all seeds get right, the best first; draws one if asked to."""
    which = arguments.pop(0) if arguments and ":" in arguments[0] else FIRST
    found = read(which)
    seeds, scenes = found.right.shape
    every = found.right.all(0)
    print(f"{scenes} held-out scenes, {seeds} seeds: right by seed {found.right.sum(1).tolist()}, by all {every.sum()}")
    for parts, count in sorted(Counter(found.parts).items()):
        of_these = np.array(found.parts) == parts
        print(f"{parts} parts: {count} scenes, {(every & of_these).sum()} right by all seeds, "
              f"{(found.right.any(0) & of_these).sum()} by at least one")  # fmt: skip
    best = sorted(np.flatnonzero(every), key=lambda i: -found.iou[:, i].min())[:5]
    print("; ".join(f"scene {i}: least mean IoU {100 * found.iou[:, i].min():.0f} %" for i in best))
    if arguments[:1] == ["--scene"]:
        from PIL import Image

        Image.fromarray(source(which)[int(arguments[1])].image).save(arguments[2])


if __name__ == "__main__":
    main(sys.argv[1:])
