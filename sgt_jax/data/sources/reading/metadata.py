"""Captions in one file for all pictures of a folder: metadata.jsonl, or metadata.csv with a header."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgt_jax.data.sources.reading import files
from sgt_jax.data.stored.record import Bad, BadRecord
from sgt_jax.errors import DataError

CAPTION_KEYS = ("text", "caption", "prompt", "description")  # of a line, the first that is there
NAMES = ("metadata.jsonl", "metadata.csv")


def metadata_file(folder: Path) -> Path:
    """The metadata of a folder; where there is none, where it would be."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), folder / NAMES[0])


def _json_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            yield number, line


def _table(data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(io.StringIO(files.text_of(data), newline=""))
    for row in rows:
        yield rows.line_num, {key: value for key, value in row.items() if key is not None and value is not None}


class Metadata:
    """The lines of a metadata.jsonl or metadata.csv, each for the picture that its file_name says.

    Attributes:
      path: of the file.
      lines: stem of the picture -> the line's fields, or why the line cannot be used (then under a stem of its own).
    """

    def __init__(self, path: Path):
        self.path = path
        self.lines: dict[str, dict[str, Any] | Bad] = {}
        self.name = path.name
        try:
            data = path.read_bytes()
            rows = _table(data) if path.suffix.lower() == ".csv" else _json_lines(data)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: cannot be read ({error}); captions='txt' takes one file a picture") from error
        for number, fields in rows:
            own = f"{path.name}, line {number}"
            try:
                fields = json.loads(fields) if isinstance(fields, bytes) else fields
                key = files.stem(fields["file_name"].replace("\\", "/"))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                reason = f"{path}, line {number}: not a JSON object in UTF-8 with a file_name ({error!r})"
                self.lines[own] = Bad(own, "bad line", reason)
                continue
            if key in self.lines:
                key, fields = own, Bad(own, "duplicate line", f"{path}, line {number}: {key} has a line already")
            self.lines[key] = fields

    def caption(self, key: str) -> tuple[str, dict[str, Any]]:
        """Caption and other fields of the picture with this stem.

        Raises:
          BadRecord: no line, no caption in it, or the line cannot be used.
        """
        fields = self.lines.get(key, {})
        if isinstance(fields, Bad):
            raise BadRecord(fields.kind, fields.reason)
        others = {name: value for name, value in fields.items() if name not in ("file_name", *CAPTION_KEYS)}
        for name in CAPTION_KEYS:
            if isinstance(fields.get(name), str) and fields[name].strip():
                return fields[name].strip(), others
        keys = "' or '".join(CAPTION_KEYS)
        raise BadRecord("missing caption", f"{self.path}: '{key}' has no line with the key '{keys}'; add it")
