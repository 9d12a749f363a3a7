"""Loads, resizes and normalises pictures exactly as the reference does, for arrays uint8 [H, W, 3] RGB."""

import dataclasses
import io
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sgt_jax.errors import DataError

DEFAULT_MAX_PIXELS = 14 * 14 * 9216
# Everything that Pillow raises on a missing, foreign, truncated, corrupt or absurdly large file.
_UNREADABLE = (
    *(OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError),
    *(EOFError, IndexError, KeyError, TypeError, OverflowError, RuntimeError, struct.error, zlib.error),
)


def to_rgb(picture: Image.Image) -> np.ndarray:
    """Any Pillow image as uint8 [H, W, 3]; transparency is composited on white."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, (255, 255, 255))
        white.paste(picture, mask=picture.split()[3])
        picture = white
    elif picture.mode.startswith("I;16"):  # 16-bit grey: Pillow's own conversion would clip it to white
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return np.asarray(picture.convert("RGB"))


def load_rgb(path: str | Path | BinaryIO, upright: bool = False, name: str = "") -> np.ndarray:
    """The picture in a file (a path, or its opened bytes, which errors call `name`) as uint8 [H, W, 3].

    EXIF rotation is ignored, as in the reference and as masks made on the stored pixels want it, unless `upright`.

    Raises:
      DataError: the file cannot be read; the message names it.
    """
    try:
        with Image.open(path) as picture:
            return to_rgb(ImageOps.exif_transpose(picture) if upright else picture)
    except FileNotFoundError as error:
        raise DataError(f"{name or path}: no such picture; check the root folder and the index file") from error
    except _UNREADABLE as error:
        advice = "download it again, or set on_bad='skip'"
        raise DataError(f"{name or path}: not a readable picture ({_said(error, name)}); {advice}") from error


def picture_size(data: bytes, name: str) -> tuple[int, int]:
    """(width, height) of an encoded picture as stored, from its header alone.

    Raises:
      DataError: the header cannot be read.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.size
    except _UNREADABLE as error:
        raise DataError(f"{name}: not a readable picture ({_said(error, name)}); download it again") from error


def _said(error: Exception, name: str) -> str:
    """What Pillow said, without the address of the buffer that it calls the file when it was given bytes."""
    if name and isinstance(error, UnidentifiedImageError):
        return "no picture format that Pillow knows"
    return str(error) or type(error).__name__


def load_values(data: bytes, name: str) -> np.ndarray:
    """The numbers in a label picture as they are stored: [H, W] (grey of 8 or 16 bits, or palette entries) or [H, W, 3].

    Raises:
      DataError: not a readable picture.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.mode in ("L", "P", "I", "1") or picture.mode.startswith("I;16"):
                return np.asarray(picture)
            if picture.mode in ("LA", "PA"):  # transparency is no part of an id
                return np.asarray(picture.getchannel(0))
            return np.asarray(picture.convert("RGB"))
    except _UNREADABLE as error:
        raise DataError(f"{name}: not a readable label picture ({_said(error, name)})") from error


def resize(image: np.ndarray, wh: tuple[int, int], nearest: bool = False) -> np.ndarray:
    """uint8 [H, W, 3] to (width, height): antialiased bicubic, or nearest to keep flat colours flat."""
    if (image.shape[1], image.shape[0]) == tuple(wh):
        return image
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC
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
    (upstream) forgets the square root and shrinks too far; it is here to reproduce upstream numbers.
    """
    if rule not in ("sgt", "bagel"):
        raise ValueError(f"no resize rule {rule!r}; choose 'sgt' or 'bagel'")

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
class TransformSpec:
    """A resize rule with its numbers; see `resize_rule`."""

    stride: int
    min_size: int
    max_size: int
    max_pixels: int = DEFAULT_MAX_PIXELS
    rule: str = "sgt"

    def size(self, width: int, height: int, img_num: int = 1) -> tuple[int, int]:
        limits = self.stride, self.min_size, self.max_size, self.max_pixels
        return resize_rule(width, height, *limits, img_num, self.rule)


def transform(image: np.ndarray, spec: TransformSpec, img_num: int = 1) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [H', W', 3] in [-1, 1] at the size of `spec`."""
    size = spec.size(image.shape[1], image.shape[0], img_num)
    return (resize(image, size).astype(np.float32) / 255 - 0.5) / 0.5
