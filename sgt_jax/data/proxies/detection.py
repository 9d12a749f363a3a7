"""A high-level proxy: a box around every object."""

import numpy as np

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures import masks
from sgt_jax.data.pictures.regions import Masks
from sgt_jax.data.proxies.registry import Painted, choice, lacks, register
from sgt_jax.data.proxies.segmentation import things_of
from sgt_jax.errors import DataError

GROUNDS = ("photo", "black")


@register("detection", level="high", needs="boxes or instance masks", ground="photo", width=0.005, min_area=1,
          max_masks=None, stuff=())  # fmt: skip
def detection(example, rng, options):
    """A box around every object, each in a colour of its own, drawn over the photo or on black.

    Boxes are `extra["boxes"]` (left, top, right, bottom in pixels, right and bottom not included), or those of the
    masks. Only things get one, and not sky or road: see "instance". The largest is drawn first, and at most `max_masks`
    are; colours go by that rank. `width` of the lines is a fraction of the diagonal.
    """
    del rng
    ground = choice("detection", options, "ground", GROUNDS)
    boxes = _boxes(example, tuple(options["stuff"]))
    size = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    boxes = [boxes[i] for i in np.argsort(-size, kind="stable") if size[i] >= max(options["min_area"], 1)]
    boxes = boxes[: options["max_masks"]]
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


def _boxes(example: Example, stuff: tuple[str, ...]) -> np.ndarray:
    """int [N, 4]: left, top, right, bottom of the things, within the picture."""
    height, width = example.image.shape[:2]
    if "boxes" in example.extra:
        boxes = np.asarray(example.extra["boxes"], float).reshape(-1, 4).round()
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise DataError(
                f"{example.name}: a box ends before it begins; boxes are left, top, right, bottom in pixels"
            )
        boxes = np.clip(boxes, 0, (width, height, width, height)).astype(int)
        # Boxes may be others than the masks' own: only lists of one length speak of the same objects.
        same = example.masks is not None and len(example.masks) == len(boxes)
        return boxes[things_of(example, "detection", stuff)] if same else boxes
    if example.masks is None:
        raise lacks(example, "detection")
    known = example.masks if isinstance(example.masks, Masks) else Masks.of_array(example.masks)
    boxes = known.boxes()
    return boxes[things_of(example, "detection", stuff) & (boxes[:, 2] > boxes[:, 0])]
