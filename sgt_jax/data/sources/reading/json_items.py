"""Random access to the items of large annotation files: JSON lines, or one JSON list, without holding them in memory.

The file is read once, in chunks, to learn where every item begins and ends; an item is then one read and one parse. Both
are byte offsets: the scan reads the file as Latin-1, in which a character is a byte and JSON's own characters are where
they are in UTF-8, so an item with broken text is one bad item and not the end of the file.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax.data.stored.boundary import BadRecord, check_unchanged, stamp
from sgt_jax.data.stored.record import Bad
from sgt_jax.errors import DataError

_CHUNK = 2**24
_LARGEST_ITEM = 2**26  # bytes; a longer "item" of a list is a missing bracket
_BOM = b"\xef\xbb\xbf"  # some editors begin a UTF-8 file with it
_SPACE = " \t\r\n"


class JsonItems:
    """The items of a file.

    Attributes:
      path: the file.
      broken: why the rest of a list cannot be read, or None.
    """

    def __init__(self, path: Path, called: str):
        """Scans the file; `called` is its name in the names of items.

        Raises:
          DataError: no such file, or it cannot be read.
        """
        self.path, self._called = path, called
        self.broken: Bad | None = None
        try:
            self._stamp = stamp(path)
            with open(path, "rb") as file:
                head = file.read(4096)
            is_list = head.removeprefix(_BOM).lstrip()[:1] == b"["
            spans = self._list_spans() if is_list else self._line_spans()
            self._spans = np.array(list(spans), np.int64).reshape(-1, 2)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error})") from error

    def __len__(self) -> int:
        return len(self._spans)

    def name(self, i: int) -> str:
        """How errors call item i."""
        return f"{self._called}[{i}]"

    def __getitem__(self, i: int) -> Any:
        """Item i, parsed.

        Raises:
          BadRecord: not UTF-8, or not JSON.
        """
        start, stop = self._spans[i].tolist()
        with open(self.path, "rb") as file:
            check_unchanged(file.fileno(), self.path, self._stamp)
            file.seek(start)
            data = file.read(stop - start)
        where = f"{self.path}, item {i} at byte {start}"
        try:
            return json.loads(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise BadRecord("not UTF-8", f"{where}: not UTF-8 ({error.reason} at its byte {error.start})") from error
        except (ValueError, RecursionError) as error:
            raise BadRecord("bad json", f"{where}: not JSON ({error}); correct or remove it") from error

    def _line_spans(self) -> Iterator[tuple[int, int]]:
        """Lines with anything but white space in them."""
        start = 0
        with open(self.path, "rb") as file:
            for line in file:
                stop = start + len(line)
                bom = len(_BOM) if start == 0 and line.startswith(_BOM) else 0
                if line[bom:].strip():
                    yield start + bom, stop
                start = stop

    def _list_spans(self) -> Iterator[tuple[int, int]]:
        """Elements of the list, each up to its last character."""
        decode = json.JSONDecoder().raw_decode
        text, before, at, ended = "", 0, 0, False  # `before` bytes of the file came before `text`
        first = True
        with open(self.path, "rb") as file:
            while True:
                text, before, at = text[at:], before + at, 0
                more = file.read(max(_CHUNK, len(text)))
                ended = not more
                text += more.decode("latin-1")
                if first:
                    at, first = text.index("[") + 1, False
                while True:
                    place = _skip(text, at, _SPACE + ",")
                    if text[place : place + 1] == "]":
                        if (text[place + 1 :] + file.read(_CHUNK).decode("latin-1")).strip(_SPACE):
                            self._break(before + place, "more data stand behind its end")
                        return
                    try:
                        _, stop = decode(text, place)
                    except (ValueError, RecursionError):
                        break
                    if stop == len(text) and not ended:
                        break  # a number may go on in the next chunk
                    yield before + place, before + stop
                    at = stop
                at = place
                if ended or len(text) - place > _LARGEST_ITEM:
                    self._break(before + place, "it is cut off, or an item there is not JSON")
                    return

    def _break(self, byte: int, why: str) -> None:
        reason = (
            f"{self.path}: the list cannot be read from byte {byte} on: {why}; download it again, or write JSON lines"
        )
        self.broken = Bad(self._called, "broken list", reason)


def _skip(text: str, at: int, what: str) -> int:
    while text[at : at + 1] and text[at] in what:
        at += 1
    return at
