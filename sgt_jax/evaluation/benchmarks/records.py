"""A file of JSON lines that grows item by item and survives a kill: a torn last line is cut off when it is opened again."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError


class Records:
    """Lines by key, in the order in which they were written."""

    def __init__(self, path: Path, key: str = "index") -> None:
        """Opens or begins the file.

        Raises:
          DataError: a line that is not the last is damaged.
        """
        self.path, self._key = path, key
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines: dict[str, dict[str, Any]] = {}
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                self._lines[str(entry[key])] = entry
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}: line {number} is damaged ({error}); remove the file to begin again") from None
        if len(whole) < len(data):
            with path.open("r+b") as file:
                file.truncate(len(whole))

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._lines.values())

    def get(self, key: str) -> dict[str, Any] | None:
        """The entry of a key, or None."""
        return self._lines.get(key)

    def append(self, entry: dict[str, Any]) -> None:
        """Writes one line at once, so that a kill leaves whole lines and at most one torn one."""
        line = json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n"
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode())
        self._lines[str(entry[self._key])] = entry


class Kept:
    """The face of `Records` without a file."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, Any]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def __len__(self) -> int:
        return len(self._lines)

    def get(self, key: str) -> dict[str, Any] | None:
        """The entry of a key, or None."""
        return self._lines.get(key)

    def append(self, entry: dict[str, Any]) -> None:
        """Keeps one entry."""
        self._lines[str(entry["index"])] = entry


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is either the old one or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
