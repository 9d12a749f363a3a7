"""One question of a benchmark, whatever layout it came in, and its pictures."""

import base64
import binascii
import dataclasses
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sgt_jax.data.pictures.reading import load_rgb, picture_size
from sgt_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class Picture:
    """An encoded picture that is read when it is needed: bytes, base64 text, or a file.

    Attributes:
      name: what errors call it.
    """

    name: str
    data: bytes | None = None
    text: str | None = None
    path: Path | None = None

    def encoded(self) -> bytes:
        """The bytes of the file.

        Raises:
          DataError: no such file, or broken base64.
        """
        if self.data is not None:
            return self.data
        if self.text is not None:
            try:
                return base64.b64decode(self.text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise DataError(f"{self.name}: broken base64 ({error}); download the table again") from None
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path}: no such picture ({error.strerror}); see docs/benchmarks.md") from None

    def size(self) -> tuple[int, int]:
        """(width, height), from the header alone. Raises DataError."""
        return picture_size(self.encoded(), self.name)

    def decode(self) -> np.ndarray:
        """uint8 [H, W, 3] as BAGEL's tools read it: transparency on white, EXIF rotation ignored. Raises DataError."""
        return load_rgb(io.BytesIO(self.encoded()), name=self.name)


@dataclasses.dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
      index: its name in the benchmark, unique.
      row: the columns of the common table, as texts; an absent value is "".
      pictures: in the order in which they are read.
      bad: why it cannot be asked, or "".
      table: the toolkit's table that it came from, or "".
    """

    index: str
    row: Mapping[str, str]
    pictures: tuple[Picture, ...] = ()
    bad: str = ""
    table: str = ""

    def digest(self) -> str:
        """A hash of the question and its answer, without the pictures."""
        text = "\x1f".join(f"{k}={v}" for k, v in sorted(self.row.items()))
        return hashlib.sha256(f"{self.index}\x1e{text}".encode()).hexdigest()


def without_repeats(items: list[Item]) -> list[Item]:
    """The items; a second one of the same index is bad and gets an index of its own, and so does one without an index."""
    seen: dict[str, int] = {}
    out = []
    for number, item in enumerate(items):
        if not item.index:
            item = dataclasses.replace(item, index=f"(row {number + 1})", bad="has no index")
        elif item.index in seen:
            bad = f"its index {item.index} stands twice in the table"
            item = dataclasses.replace(item, index=f"{item.index} (row {number + 1})", bad=bad)
        seen[item.index] = number
        out.append(item)
    return out


def digest(items: list[Item]) -> str:
    """A hash of all questions of a benchmark, in their order."""
    return hashlib.sha256("".join(item.digest() for item in items).encode()).hexdigest()[:16]
