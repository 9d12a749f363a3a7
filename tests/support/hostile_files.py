"""Files as they come from real downloads and other people's tools: makers of odd and broken ones, for every test of sources.

A picture that carries a number (`numbered`) tells whose it is after any road through tars, parquet and JPEG, so a test can
check pairing and not only shapes.
"""

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def encoded(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """The picture as a file's bytes."""
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def numbered(number: int, width: int = 24, height: int = 16, form: str = "JPEG") -> bytes:
    """A flat picture whose grey level tells its number, 0..31; JPEG does not blur it away. See `number_of`."""
    return encoded(Image.new("RGB", (width, height), (number * 8 + 4,) * 3), form)


def number_of(picture: np.ndarray) -> int:
    """The number of a `numbered` picture, from its decoded pixels."""
    return int(picture[0, 0, 0]) // 8


def truncated_jpeg(size: tuple[int, int] = (64, 48), keep: float = 0.5) -> bytes:
    """A JPEG whose header is whole and whose data end early."""
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG", quality=90)
    return data[: int(len(data) * keep)]


def cmyk_jpeg() -> bytes:
    """A JPEG in printers' inks (pure cyan), 12 x 8."""
    return encoded(Image.new("CMYK", (12, 8), (255, 0, 0, 0)), "JPEG", quality=95)


def palette_png(transparent: bool = False) -> bytes:
    """12 x 8 pixels of entry 1, which is (200, 30, 40); `transparent` makes that entry see-through."""
    picture = Image.new("P", (12, 8), 1)
    picture.putpalette([0, 0, 0, 200, 30, 40] + [0] * 762)
    return encoded(picture, "PNG", **({"transparency": 1} if transparent else {}))


def grey16_png(values: np.ndarray | None = None) -> bytes:
    """A 16-bit grey PNG; by default 12 x 8 of the value 0x8000, whose upper byte is 128."""
    return encoded(Image.fromarray(np.full((8, 12), 0x8000, np.uint16) if values is None else values.astype(np.uint16)))


def alpha_png(alpha: int = 0) -> bytes:
    """12 x 8 pixels of red with an alpha channel; alpha 0 lets the white below through."""
    return encoded(Image.new("RGBA", (12, 8), (255, 0, 0, alpha)))


def rotated_jpeg() -> bytes:
    """Stored 24 x 16, left half black and right half white, with EXIF orientation 6: upright it is 16 x 24, black above."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, 12:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(pixels), "JPEG", exif=exif, quality=95)


def one_row_png(width: int = 40) -> bytes:
    """A picture one pixel high."""
    return encoded(Image.new("RGB", (width, 1), (9, 8, 7)))


def bomb_png(side: int = 60_000) -> bytes:
    """A decompression bomb: a PNG of some 100 bytes that claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def large_jpeg(width: int = 6000, height: int = 5000) -> bytes:
    """A picture of 30 megapixels, of one colour (200, 100, 50), so that it is small on disk."""
    return encoded(Image.new("RGB", (width, height), (200, 100, 50)), "JPEG")


def ids_png(ids: np.ndarray) -> bytes:
    """Segment ids int [H, W] as COCO panoptic stores them: R + 256 G + 65536 B."""
    ids = ids.astype(np.uint32)
    return encoded(Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8)))


# What every source of pictures must refuse with a reason: file name -> (its bytes, does the header still look fine).
UNREADABLE: dict[str, tuple[bytes, bool]] = {
    "empty.jpg": (b"", False),
    "text.jpg": (b"<html>404 Not Found</html>", False),
    "cut_header.jpg": (numbered(1)[:30], False),
    "truncated.jpg": (truncated_jpeg(), True),
    "bomb.png": (bomb_png(), False),
}
# What they must read: file name -> (bytes, width, height, colour of the first pixel).
ODD: dict[str, tuple[bytes, int, int, tuple[int, int, int]]] = {
    "cmyk.jpg": (cmyk_jpeg(), 12, 8, (0, 255, 255)),
    "palette.png": (palette_png(), 12, 8, (200, 30, 40)),
    "palette_transparent.png": (palette_png(True), 12, 8, (255, 255, 255)),
    "grey16.png": (grey16_png(), 12, 8, (128, 128, 128)),
    "alpha.png": (alpha_png(), 12, 8, (255, 255, 255)),
    "one_row.png": (one_row_png(), 40, 1, (9, 8, 7)),
    "UPPER.JPG": (numbered(3), 24, 16, (28, 28, 28)),
}


def write(path: Path, data: bytes) -> Path:
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def macos_companion(path: Path) -> Path:
    """The resource file `._NAME` that archives made on macOS hold beside NAME."""
    return write(path.with_name("._" + path.name), b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")


def json_lines(items: Iterable[Mapping[str, Any] | bytes]) -> bytes:
    """JSON lines; an item of bytes stands as it is (a broken line)."""
    return b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in items) + b"\n"


NOT_UTF8_LINE = (
    b'{"id": "latin1", "conversations": [{"from": "human", "value": "caf\xe9"}, {"from": "gpt", "value": "x"}]}'
)


def tar(path: Path, members: Iterable[tuple[str, bytes] | tarfile.TarInfo]) -> Path:
    """A tar of (name, content) pairs, in the given order; a TarInfo stands as it is (links, folders)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as out:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                out.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            out.addfile(info, io.BytesIO(member[1]))
    return path


def tar_link(name: str, target: str, hard: bool = False) -> tarfile.TarInfo:
    """A member that points somewhere else."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = (tarfile.LNKTYPE if hard else tarfile.SYMTYPE), target
    return info


def tar_folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info
