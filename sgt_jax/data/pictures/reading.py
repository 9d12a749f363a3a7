"""Decodes pictures to arrays: converts colours, applies the orientation, and names the file in errors."""

import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sgt_jax.errors import DataError

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
