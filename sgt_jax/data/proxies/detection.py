"""A high-level proxy: a box around every object."""

import numpy as np

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures import masks
from sgt_jax.data.proxies.registry import Painted, choice, lacks, register
from sgt_jax.errors import DataError

GROUNDS = ("photo", "black")


@register("detection", level="high", needs="boxes or instance masks", ground="photo", width=0.005, min_area=1)
def detection(example, rng, options):
    """A box around every object, each in a colour of its own, drawn over the photo or on black.

    Boxes are `extra["boxes"]` (left, top, right, bottom in pixels, right and bottom not included), or those of the
    masks. The largest is drawn first; colours go by that rank. `width` of the lines is a fraction of the diagonal.
    """
    del rng
    ground = choice("detection", options, "ground", GROUNDS)
    boxes = _boxes(example)
    size = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    boxes = [boxes[i] for i in np.argsort(-size, kind="stable") if size[i] >= max(options["min_area"], 1)]
    if not boxes:
        raise lacks(example, "detection", "at least one object")
    target = example.image.copy() if ground == "photo" else np.zeros_like(example.image)
    width = max(1, round(options["width"] * float(np.hypot(*target.shape[:2]))))
    for (left, top, right, bottom), colour in zip(boxes, masks.distinct_colours(len(boxes)), strict=True):
        inside = target[top:bottom, left:right].copy()
        target[top:bottom, left:right] = colour
        if bottom - top > 2 * width and right - left > 2 * width:
            target[top + width : bottom - width, left + width : right - width] = inside[width:-width, width:-width]
    return Painted(example.image, target)


def _boxes(example: Example) -> np.ndarray:
    """int [N, 4]: left, top, right, bottom, within the picture."""
    height, width = example.image.shape[:2]
    if "boxes" in example.extra:
        boxes = np.asarray(example.extra["boxes"], float).reshape(-1, 4).round()
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise DataError(
                f"{example.name}: a box ends before it begins; boxes are left, top, right, bottom in pixels"
            )
        return np.clip(boxes, 0, (width, height, width, height)).astype(int)
    if example.masks is None:
        raise lacks(example, "detection")
    boxes = []
    for mask in example.masks:
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        if len(columns):
            boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return np.array(boxes, int).reshape(-1, 4)
