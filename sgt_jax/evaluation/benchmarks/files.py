"""Reads the small file formats of benchmarks; an error names the file and the line."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError

_FIELD_LIMIT = 1 << 30  # characters; a picture in base64 is one field
FAULT = "\0fault"  # the column in which `read_table` says what is wrong with a row


def read_table(path: str | os.PathLike, delimiter: str = "\t") -> list[dict[str, str]]:
    """The rows of a TSV or CSV file with a header; an absent field is "", and a row with too many says so under `FAULT`.

    Raises:
      DataError: not there, or not UTF-8.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    with _opened(path, newline="") as file:
        try:
            reader = csv.DictReader(file, delimiter=delimiter, restval="")
            rows = list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: is no table ({error}); copy it again") from None
    for row in rows:
        if row.pop(None, None) is not None:
            row[FAULT] = "has more fields than the header; quote a field that holds the delimiter"
    return rows


def read_json(path: str | os.PathLike) -> Any:
    """A JSON file.

    Raises:
      DataError: not there, or no JSON.
    """
    with _opened(path) as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise DataError(f"{path}: is no JSON ({error}); copy it again") from None


def read_json_lines(path: str | os.PathLike) -> list[Any]:
    """A file of JSON lines; empty lines are skipped.

    Raises:
      DataError: not there, or a line that is no JSON.
    """
    return list(_json_lines(path))


def _json_lines(path: str | os.PathLike) -> Iterator[Any]:
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}: line {number} is no JSON ({error}); mend or remove it") from None


def read_sheet(path: str | os.PathLike) -> list[dict[str, str]]:
    """The rows of the first sheet of an xlsx file as texts; an empty cell is "".

    Raises:
      DataError: not there, or no workbook.
    """
    import zipfile

    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"{path}: is no xlsx file ({error}); copy it again") from None
    rows = [
        ["" if cell is None else str(cell) for cell in row] for row in book.worksheets[0].iter_rows(values_only=True)
    ]
    book.close()
    return [dict(zip(rows[0], row)) for row in rows[1:]] if rows else []


def _opened(path: str | os.PathLike, newline: str | None = None) -> Any:
    try:
        return Path(path).open(encoding="utf-8", newline=newline)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); see docs/benchmarks.md for where to get it"
        ) from None
