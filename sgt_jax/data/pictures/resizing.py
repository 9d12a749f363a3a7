"""Resizes and normalises pictures (uint8 [H, W, 3] RGB) exactly as the reference does."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from sgt_jax.errors import ConfigError, DataError

DEFAULT_MAX_PIXELS = 14 * 14 * 9216


def resize(
    image: np.ndarray, wh: tuple[int, int], nearest: bool = False, smooth: Image.Resampling = Image.Resampling.BICUBIC
) -> np.ndarray:
    """uint8 [H, W, 3] to (width, height): antialiased by `smooth`, or nearest to keep flat colours flat."""
    if (image.shape[1], image.shape[0]) == tuple(wh):
        return image
    method = Image.Resampling.NEAREST if nearest else smooth
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(wh, method))


def nearest_pixels(array: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """An array [H, W, ...] at another (height, width), exactly the pixels that `resize` takes with `nearest`."""
    if array.shape[:2] == tuple(hw):
        return array
    rows, columns = (
        # Pillow itself says which source pixel it would take; its ties are not those of a formula.
        np.asarray(Image.fromarray(np.arange(old, dtype=np.int32)[None]).resize((new, 1), Image.Resampling.NEAREST))[0]
        for new, old in zip(hw, array.shape, strict=False)
    )
    return array[rows[:, None], columns]


def resize_rule(
    width: int,
    height: int,
    stride: int,
    min_size: int,
    max_size: int,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    img_num: int = 1,
    rule: str = "sgt",
) -> tuple[int, int]:
    """The size (width, height) that a picture is given: sides are multiples of `stride`.

    The long side becomes at most `max_size`, then the short one at least `min_size`; `img_num` pictures share
    `max_pixels`. The rules differ where that budget binds: "sgt" shrinks the original to the budget, "bagel"
    (upstream) forgets the square root and shrinks too far; it is here to reproduce upstream numbers. "floor" is
    OmniGen2's for its autoencoder: it never enlarges, and rounds down; `min_size` does not count.
    """
    if rule not in ("sgt", "bagel", "floor"):
        raise ConfigError(f"no resize rule {rule!r}; choose 'sgt', 'bagel' or 'floor'")
    if rule == "floor":
        ratio = min(1.0, max_size / max(width, height), math.sqrt(max_pixels / img_num / (width * height)))
        return tuple(max(stride, int(side * ratio) // stride * stride) for side in (width, height))

    def scaled(w: int, h: int, scale: float) -> tuple[int, int]:
        # Rounded to a pixel first and to the stride second, both with Python's ties-to-even.
        return tuple(max(stride, round(round(side * scale) / stride) * stride) for side in (w, h))

    scale = max(min(max_size / max(width, height), 1.0), min_size / min(width, height))
    new = scaled(width, height, scale)
    budget = max_pixels / img_num
    if new[0] * new[1] > budget:
        if rule == "sgt":
            new = scaled(width, height, math.sqrt(budget / (width * height)))
        else:
            new = scaled(*new, budget / (new[0] * new[1]))
    if max(new) > max_size:
        new = scaled(*new, max_size / max(new))
    return new


@dataclasses.dataclass(frozen=True)
class ResizeRule:
    """A resize rule with its numbers, each picture at its own aspect; see `resize_rule`.

    It stands in front of the understanding encoder, and in front of the autoencoder for pictures that are read, or painted
    and tokenised.
    """

    stride: int
    min_size: int
    max_size: int
    max_pixels: int = DEFAULT_MAX_PIXELS
    rule: str = "sgt"

    def size(self, width: int, height: int, pictures: int = 1) -> tuple[int, int]:
        """The size (width, height) that a picture is given; `pictures` share the pixel budget."""
        limits = self.stride, self.min_size, self.max_size, self.max_pixels
        return resize_rule(width, height, *limits, pictures, self.rule)

    def __call__(self, image: np.ndarray, pictures: int = 1, nearest: bool = False) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 at the size that the rule gives."""
        smooth = Image.Resampling.LANCZOS if self.rule == "floor" else Image.Resampling.BICUBIC
        return resize(image, self.size(image.shape[1], image.shape[0], pictures), nearest, smooth)


def transform(image: np.ndarray, rule: ResizeRule, pictures: int = 1) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [H', W', 3] in [-1, 1] at the size of `rule`."""
    return (rule(image, pictures).astype(np.float32) / 255 - 0.5) / 0.5


Canvases = Sequence[tuple[int, int]]


def to_canvas(image: np.ndarray, canvases: "Canvases | ResizeRule", nearest: bool = False) -> np.ndarray:
    """Resizes uint8 [H, W, 3] to the canvas (height, width) of the closest aspect ratio, the largest among equals.

    Canvases are few and fixed because a compiled step has static shapes; every picture fills its canvas, so the VAE never
    sees padding. A resize rule in their place gives every picture a size of its own, which only tokenising can afford.
    `nearest` keeps flat colours flat (masks); otherwise antialiased bicubic.
    """
    if isinstance(canvases, ResizeRule):
        return canvases(image, nearest=nearest)
    if not canvases:
        raise DataError(
            "there are no canvases for pictures to paint: set config.data.canvases, or tokenise the targets"
        )
    aspect = np.log(image.shape[0] / image.shape[1])
    height, width = min(canvases, key=lambda c: (round(abs(np.log(c[0] / c[1]) - aspect), 6), -c[0] * c[1]))
    return resize(image, (width, height), nearest=nearest)
