"""Parquet files with pictures in them: text to image, and editing. Row groups are the unit of reading and resumption.

    ROOT/**/*.parquet      text to image: `image` (bytes, base64, the hub's {bytes, path}, or a path below ROOT) and
                           `captions` (a sentence, a list, a struct, or either as JSON in a text)
                           editing: `image_list` (such pictures) and `instruction_list` (one entry fewer: the wordings of
                           a step; of two pictures all texts are wordings)

A file's footer says how many row groups it has, so the reference's `parquet_info` is not needed.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from sgt_jax.data.sources.reading import files
from sgt_jax.data.sources.reading.cells import picture, wordings
from sgt_jax.data.sources.reading.streamed import StreamedSource
from sgt_jax.data.stored.boundary import check_open_files
from sgt_jax.data.stored.record import Bad, BadRecord, Record, Shard
from sgt_jax.errors import DataError

ROWS_AT_ONCE = 16  # pictures are large; a row group may hold thousands
_UNREADABLE = (pyarrow.ArrowException, OSError, UnicodeDecodeError)


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

    def record(self, name: str, row: Mapping[str, Any], folders: Sequence[Path], passed_over: Counter) -> Record:
        captions = wordings(row[self.captions], name, passed_over)
        extra = {"captions": captions} if len(captions) > 1 else {}
        return Record(name, (picture(row[self.image], name, folders),), caption=captions[0], extra=extra)


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

    def record(self, name: str, row: Mapping[str, Any], folders: Sequence[Path], passed_over: Counter) -> Record:
        cells = [row[column] for column in self.pictures]
        if len(cells) == 1:
            cells = cells[0] or []
        steps = row[self.instructions]
        # A pair has one step: whatever texts there are word it. Of a longer series a step is an entry of the list.
        one = isinstance(steps, str | Mapping) or (isinstance(steps, list) and all(isinstance(s, str) for s in steps))
        steps = [steps] if steps and one and len(cells) == 2 else [steps] if isinstance(steps, str) else steps or []
        if not isinstance(cells, list) or len(cells) < 2 or len(steps) != len(cells) - 1:
            reason = f"{name}: {len(cells)} pictures and {len(steps)} instructions; there must be one instruction fewer"
            raise BadRecord("picture count", reason)
        instructions = [wordings(step, name, passed_over) for step in steps]
        pictures = tuple(picture(cell, name, folders) for cell in cells)
        return Record(name, pictures, extra={"instructions": instructions})


class _Parquet(StreamedSource):
    def __init__(self, root: str | Path, row: CaptionedRow | EditRow):
        self.root, self._row = files.local_folder(root), row
        # Pictures may lie beside the tables, as files that cells name.
        self._files = files.files_below(self.root, (".parquet",), self.passed_over, files.PHOTO_SUFFIXES)
        if not self._files:
            raise DataError(f"{self.root}: holds no .parquet file; check the path")

    def pieces(self, size: int) -> Sequence["RowGroups"]:
        """Row groups of a file, tiny ones joined to `size` rows; a file that cannot be opened is one shard that says so."""
        found, others = [], Counter()
        for name in self._files:
            try:
                with parquet.ParquetFile(self.root / name) as file:
                    known, counts = file.schema_arrow.names, _counts(file)
            except _UNREADABLE as error:
                check_open_files(error)
                known, counts = self._row.columns, [None]
            if missing := [column for column in self._row.columns if column not in known]:
                raise DataError(f"{self.root / name}: has no column {missing}; it has {', '.join(known)}: name them")
            others.update(f"files with the column '{c}'" for c in known if c not in self._row.columns)
            for numbers in _joined(counts, size):
                count = None if None in counts else sum(counts[i] for i in numbers)
                called = f"{files.stem(name)}-{numbers[0]}" + (f"-{numbers[-1]}" if len(numbers) > 1 else "")
                found.append(RowGroups(called, self.root, name, numbers, self._row, count))
        self.passed_over.update(others - self.passed_over)  # once, however often it is asked
        files.report(self.passed_over, self)
        return found


def _joined(counts: Sequence[int | None], size: int) -> list[tuple[int, ...]]:
    """Numbers of row groups that are read together: neighbours, as long as they have at most `size` rows."""
    found: list[list[int]] = []
    rows = 0
    for number, count in enumerate(counts):
        if found and count is not None and rows + count <= size:
            found[-1].append(number)
            rows += count
        else:
            found.append([number])
            rows = count or 0
    return [tuple(numbers) for numbers in found]


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
class RowGroups(Shard):
    """The rows of neighbouring row groups; records are named FILE/ROW, counted from the start of their file."""

    name: str
    root: Path
    file: str
    numbers: tuple[int, ...]
    row: CaptionedRow | EditRow
    count: int | None = None

    def __iter__(self) -> Iterator[Record | Bad]:
        path, done = self.root / self.file, 0
        folders = (path.parent, self.root)
        try:
            with parquet.ParquetFile(path) as file:
                before = sum(_counts(file)[: self.numbers[0]])
                batches = file.iter_batches(ROWS_AT_ONCE, row_groups=list(self.numbers), columns=self.row.columns)
                for batch in batches:
                    for i in range(batch.num_rows):
                        name = f"{self.file}/{before + done}"
                        done += 1
                        yield self.guarded(name, lambda name=name, i=i, batch=batch: self.row.record(
                            name, batch.slice(i, 1).to_pylist()[0], folders, self.passed_over))  # fmt: skip
        except _UNREADABLE as error:
            check_open_files(error)
            groups = f"{self.numbers[0]} to {self.numbers[-1]}" if len(self.numbers) > 1 else f"{self.numbers[0]}"
            reason = f"{path}: row group {groups} cannot be read after {done} rows ({error}); download it again"
            yield Bad(f"{self.file}/group {groups}", "broken file", reason)


def _counts(file: parquet.ParquetFile) -> list[int]:
    """Rows of every row group."""
    return [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
