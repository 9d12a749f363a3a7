"""Decodes pictures to arrays: converts colours, applies the orientation, and names the file in errors.

Pictures that BAGEL's loaders use are used: up to `MOST_PIXELS`, with megabytes of metadata, and with their last bytes
missing (unless `truncated` is False). Memory beside the decoded picture stays below 5 bytes a pixel.
"""

import contextlib
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError

from sgt_jax.data.stored.places import regular
from sgt_jax.errors import DataError, beside

MOST_PIXELS = 200_000_000  # of a picture; beyond, it is taken for a decompression bomb
MOST_MISSING = 0.25  # of a picture's pixels, where its file ends early: with more of them it is unreadable
_STRIP = 16_000_000  # pixels; larger pictures are converted in strips of rows of so many
_ORIENTATION = 0x0112  # the EXIF tag
# Pillow refuses twice this. Metadata are read as far as 64 MB of one picture, in place of 1 MB.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**26
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Everything that Pillow raises on a missing, foreign, truncated, corrupt or absurdly large file.
_UNREADABLE = (
    *(OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError),
    *(EOFError, IndexError, KeyError, TypeError, OverflowError, RuntimeError, AttributeError, AssertionError),
    *(struct.error, zlib.error, ZeroDivisionError, NotImplementedError),
)
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_lenient = threading.RLock()  # Pillow's switch for truncated files is one for all threads


def to_rgb(picture: Image.Image) -> np.ndarray:
    """Any Pillow image as uint8 [H, W, 3]; transparency is composited on white.

    Raises:
      ValueError: numbers that are no grey levels: not finite, negative, or above 65535.
    """
    width, height = picture.size
    if width * height > _STRIP and picture.mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA"):
        rows = max(_STRIP // width, 1)
        out = np.empty((height, width, 3), np.uint8)
        for top in range(0, height, rows):
            strip = picture.crop((0, top, width, min(top + rows, height)))
            strip.info = picture.info
            out[top : top + rows] = _rgb(strip)
        return out
    return _rgb(picture)


def _rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, (255, 255, 255))
        white.paste(picture, mask=picture.split()[3])
        picture = white
    elif picture.mode.startswith("I;16"):  # 16-bit grey: Pillow's own conversion would clip it to white
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        picture = Image.fromarray(_grey(np.asarray(picture)))
    return np.asarray(picture.convert("RGB"))


def _grey(values: np.ndarray) -> np.ndarray:
    """Grey levels uint8 of float or 32-bit numbers: 0..1 if they are float, else 0..255, else 0..65535."""
    if not np.isfinite(values).all():
        raise ValueError("its numbers are not finite; save it as an 8-bit picture")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        raise ValueError(
            f"its numbers run from {low:g} to {high:g} and are no grey levels; save it as an 8-bit picture"
        )
    if values.dtype.kind == "f" and high <= 1:
        return (values * 255).round().astype(np.uint8)
    return (values if high <= 255 else values / 257).astype(np.uint8)


def load_rgb(path: str | Path | BinaryIO, upright: bool = False, name: str = "", truncated: bool = False) -> np.ndarray:
    """The picture in a file (a path, or its opened bytes, which errors call `name`) as uint8 [H, W, 3].

    Args:
      upright: turn it as its EXIF orientation says; else the pixels as stored.
      truncated: use a picture whose last bytes are missing, as BAGEL's loaders do; what is missing is grey or black, and
        at most `MOST_MISSING` of it.

    Raises:
      DataError: the file cannot be read; the message names it.
    """

    def read() -> np.ndarray:
        with Image.open(path) as picture:
            if upright:
                return to_rgb(ImageOps.exif_transpose(picture))
            return to_rgb(picture)

    if isinstance(path, str | Path):
        regular(path)
    try:
        return _loaded(read, path, truncated)
    except FileNotFoundError as error:
        near = beside(path) if isinstance(path, str | Path) and not name else ""
        advice = near or "; check the root folder and the index file"
        raise DataError(f"{name or path}: no such picture{advice}") from error
    except _UNREADABLE as error:
        advice = "download it again, or set on_bad='skip'"
        raise DataError(f"{name or path}: not a readable picture ({_said(error, name, path)}); {advice}") from error


def _loaded(read, path: str | Path | BinaryIO, truncated: bool) -> np.ndarray:
    try:
        return read()
    except OSError as error:
        if not truncated or "truncated" not in str(error):
            raise
        with _lenient, _truncated_files():
            if hasattr(path, "seek"):
                path.seek(0)
            pixels = read()
        if _missing(pixels) > MOST_MISSING:
            raise
        return pixels


def _missing(pixels: np.ndarray) -> float:
    """The share of a picture that its decoder filled up, with grey (JPEG) or black, from where its file ends."""
    last = pixels[-1, -1]
    return float((pixels == last).all(-1).mean()) if last.tolist() in ([128] * 3, [0] * 3) else 0.0


@contextlib.contextmanager
def _truncated_files() -> Iterator[None]:
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def picture_size(data: bytes, name: str, formats: Sequence[str] | None = None) -> tuple[int, int]:
    """(width, height) of an encoded picture as stored, from its header alone; `formats` bounds what Pillow tries.

    Raises:
      DataError: the header cannot be read.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats) as picture:
            return picture.size
    except _UNREADABLE as error:
        said = _said(error, name, io.BytesIO(data))
        raise DataError(f"{name}: not a readable picture ({said}); download it again") from error


def orientation(data: bytes) -> int:
    """The EXIF orientation of an encoded picture, 1 to 8; 1 where it has none, or none that can be read."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            found = picture.getexif().get(_ORIENTATION, 1)
    except _UNREADABLE:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _said(error: Exception, name: str, path: str | Path | BinaryIO) -> str:
    """What Pillow said, without the address of the buffer that it calls the file when it was given bytes."""
    if isinstance(error, UnidentifiedImageError):
        if _is_heic(path):
            return "HEIC, which Pillow reads with the package pillow-heif only: install it, or convert the picture"
        if name:
            return "no picture format that Pillow knows"
    return str(error) or type(error).__name__


def _is_heic(path: str | Path | BinaryIO) -> bool:
    try:
        if hasattr(path, "seek"):
            path.seek(0)
            head = path.read(12)
        else:
            with open(path, "rb") as file:
                head = file.read(12)
    except (OSError, ValueError):
        return False
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC


def load_values(data: bytes, name: str) -> np.ndarray:
    """The numbers in a label picture as they are stored: [H, W] (grey of 8 or 16 bits, or palette entries) or [H, W, 3].

    Raises:
      DataError: not a readable picture.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.mode in ("L", "P", "I", "1", "F") or picture.mode.startswith("I;16"):
                return np.asarray(picture)
            if picture.mode in ("LA", "PA"):  # transparency is no part of an id
                return np.asarray(picture.getchannel(0))
            return np.asarray(picture.convert("RGB"))
    except _UNREADABLE as error:
        said = _said(error, name, io.BytesIO(data))
        raise DataError(f"{name}: not a readable label picture ({said})") from error


with contextlib.suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()
