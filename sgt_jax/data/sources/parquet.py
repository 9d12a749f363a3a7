"""Parquet files with pictures in them: text to image, and editing. Row groups are the unit of reading and resumption.

    ROOT/**/*.parquet      text to image: `image` (bytes, or the hub's {bytes, path}) and `captions` (a sentence, a list,
                           or a JSON object whose values are captions)
                           editing: `image_list` (bytes) and `instruction_list` (one entry fewer: the wordings of a step)

A file's footer says how many row groups it has, so the reference's `parquet_info` is not needed.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from sgt_jax.data.sources.reading import files
from sgt_jax.data.sources.reading.streamed import StreamedSource
from sgt_jax.data.stored.record import Bad, BadRecord, Record, Shard
from sgt_jax.errors import DataError

ROWS_AT_ONCE = 16  # pictures are large; a row group may hold thousands
_UNREADABLE = (pyarrow.ArrowException, OSError)


@dataclasses.dataclass(frozen=True)
class CaptionedRow:
    """A row with one picture and what it shows.

    Attributes:
      image, captions: the columns.
    """

    image: str
    captions: str

    @property
    def columns(self) -> list[str]:
        return [self.image, self.captions]

    def record(self, name: str, row: Mapping[str, Any]) -> Record:
        captions = wordings(row[self.captions], name)
        extra = {"captions": captions} if len(captions) > 1 else {}
        return Record(name, (picture(row[self.image], name),), caption=captions[0], extra=extra)


@dataclasses.dataclass(frozen=True)
class EditRow:
    """A row with a series of pictures and the instructions between them.

    Attributes:
      pictures: one column with a list, or the columns of the pictures in order.
      instructions: one column with a list of lists (or, for two pictures, with the instruction itself).
    """

    pictures: tuple[str, ...]
    instructions: str

    @property
    def columns(self) -> list[str]:
        return [*self.pictures, self.instructions]

    def record(self, name: str, row: Mapping[str, Any]) -> Record:
        cells = [row[column] for column in self.pictures]
        if len(cells) == 1:
            cells = cells[0] or []
        steps = row[self.instructions]
        steps = [steps] if isinstance(steps, str) else steps or []
        if len(cells) < 2 or len(steps) != len(cells) - 1:
            reason = f"{name}: {len(cells)} pictures and {len(steps)} instructions; there must be one instruction fewer"
            raise BadRecord("picture count", reason)
        instructions = [wordings(step, name) for step in steps]
        return Record(name, tuple(picture(cell, name) for cell in cells), extra={"instructions": instructions})


class _Parquet(StreamedSource):
    def __init__(self, root: str | Path, row: CaptionedRow | EditRow):
        self.root, self._row = files.local_folder(root), row
        self._files = files.files_below(self.root, (".parquet",))
        if not self._files:
            raise DataError(f"{self.root}: holds no .parquet file; check the path")

    def shards(self, size: int = 0) -> Sequence["RowGroup"]:
        """One shard a row group; a file that cannot be opened is one shard that says so."""
        found = []
        for name in self._files:
            try:
                with parquet.ParquetFile(self.root / name) as file:
                    known, counts = file.schema_arrow.names, _counts(file)
            except _UNREADABLE:
                known, counts = self._row.columns, [None]
            if missing := [column for column in self._row.columns if column not in known]:
                raise DataError(f"{self.root / name}: has no column {missing}; it has {', '.join(known)}: name them")
            found += [
                RowGroup(f"{files.stem(name)}-{i}", self.root, name, i, self._row, count)
                for i, count in enumerate(counts)
            ]
        return found


class TextToImageParquet(_Parquet):
    """Pictures with captions, for `ingest`.

    Args:
      root: folder above the files.
      image, captions: names of the columns.
    """

    def __init__(self, root: str | Path, image: str = "image", captions: str = "captions"):
        super().__init__(root, CaptionedRow(image, captions))


class EditingParquet(_Parquet):
    """Series of edited pictures, for `ingest`.

    Args:
      root: folder above the files.
      pictures: the column that lists them, or several columns, one picture each, in order.
      instructions: the column of the instructions.
    """

    def __init__(
        self, root: str | Path, pictures: str | Sequence[str] = "image_list", instructions: str = "instruction_list"
    ):
        columns = (pictures,) if isinstance(pictures, str) else tuple(pictures)
        super().__init__(root, EditRow(columns, instructions))


@dataclasses.dataclass(frozen=True)
class RowGroup(Shard):
    """The rows of one row group; records are named FILE/ROW, counted from the start of the group's file."""

    name: str
    root: Path
    file: str
    number: int
    row: CaptionedRow | EditRow
    count: int | None = None

    def __iter__(self) -> Iterator[Record | Bad]:
        path, done = self.root / self.file, 0
        try:
            with parquet.ParquetFile(path) as file:
                before = sum(_counts(file)[: self.number])
                for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[self.number], columns=self.row.columns):
                    for row in batch.to_pylist():
                        name = f"{self.file}/{before + done}"
                        done += 1
                        try:
                            yield self.row.record(name, row)
                        except BadRecord as error:
                            yield Bad(name, error.kind, str(error))
        except _UNREADABLE as error:
            reason = f"{path}: row group {self.number} cannot be read after {done} rows ({error}); download it again"
            yield Bad(f"{self.file}/group {self.number}", "broken file", reason)


def _counts(file: parquet.ParquetFile) -> list[int]:
    """Rows of every row group."""
    return [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]


def picture(cell: Any, name: str) -> bytes:
    """The encoded picture in a cell: bytes, or {bytes, path} as the hub stores it.

    Raises:
      BadRecord: there is none.
    """
    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if not isinstance(data, bytes) or not data:
        raise BadRecord("missing picture", f"{name}: the cell of the picture holds no bytes; download the file again")
    return data


def wordings(cell: Any, name: str) -> list[str]:
    """The texts in a cell: one, a list, or the values of a JSON object; blank ones left out.

    Raises:
      BadRecord: none, or broken JSON.
    """
    if isinstance(cell, str) and cell.lstrip().startswith("{"):
        try:
            cell = list(json.loads(cell).values())
        except ValueError as error:
            raise BadRecord("bad json", f"{name}: its text is not the JSON object it begins as ({error})") from error
    texts = [cell] if isinstance(cell, str) else cell or []
    texts = [text.strip() for text in texts if isinstance(text, str) and text.strip()]
    if not texts:
        raise BadRecord("missing text", f"{name}: no caption or instruction; remove the row")
    return texts
