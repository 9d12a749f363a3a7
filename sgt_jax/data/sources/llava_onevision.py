"""LLaVA-OneVision data, as JSON with picture files (download scripts) or as the hub's parquet files.

ROOT/annotations/all_data.jsonl or all_data.json      lines or one list; or any other file(s): annotations=
ROOT/images/{Category}/{subset}/{subset}_{row}.jpg    what "image" in them is relative to: images=

ROOT/{subset}/train-000NN-of-000MM.parquet            columns id, image, conversations, data_source
"""

import dataclasses
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from sgt_jax.data.sources.reading import files
from sgt_jax.data.sources.reading.conversations import (
    KEPT,
    PICTURE_KEYS,
    TURN_KEYS,
    VIDEO_KEYS,
    Reading,
    check_unknown,
)  # fmt: skip
from sgt_jax.data.sources.reading.json_items import JsonItems
from sgt_jax.data.sources.reading.streamed import StreamedSource
from sgt_jax.data.stored.boundary import check_open_files
from sgt_jax.data.stored.record import Bad, BadRecord, Record, Shard, Source
from sgt_jax.errors import DataError

USUAL = ("annotations/all_data.jsonl", "annotations/all_data.json")
_ROWS = 64  # of a parquet file at once: pictures of some hundred kilobytes each


class LlavaOneVision(Source):
    """Random access to conversations in JSON lines or JSON lists, with their pictures as files.

    Args:
      root: the data set's folder.
      annotations: file or files below it; None takes annotations/all_data.jsonl, or else all_data.json.
      images: folder below it that the pictures' paths are relative to.
      untagged, max_frames, upright: see `conversations.Reading`.
      on_bad: what to do on opening with a list that cannot be read to its end: "error", or "skip", which uses what comes
        before and lists the break in `left_out`. An item that turns out bad when read is a BadRecord either way.
      limit: use only the first so many items.
    """

    def __init__(
        self,
        root: str | Path,
        annotations: str | Sequence[str] | None = None,
        images: str = "images",
        untagged: str = "bad",
        max_frames: int = 12,
        upright: bool = True,
        on_bad: str = "error",
        limit: int | None = None,
    ):
        self.root = files.local_folder(root, "it holds annotations/ and images/")
        self._reading, self.upright = Reading(untagged, max_frames, upright), upright
        self._images = self.root / images
        if annotations is None:
            annotations = next((name for name in USUAL if (self.root / name).is_file()), None)
            if annotations is None:
                raise DataError(f"{self.root}: holds neither {' nor '.join(USUAL)}; name the file with annotations=")
        names = [annotations] if isinstance(annotations, str) else annotations
        self._files = [JsonItems(self.root / name, name) for name in names]
        self._ends = list(accumulate(len(items) for items in self._files))
        broken = [items.broken for items in self._files if items.broken]
        self.left_out = files.accept_bad(broken, on_bad, str(self.root))
        self._len = self._ends[-1] if limit is None else min(limit, self._ends[-1])
        if not self._len:
            raise DataError(f"{self.root}: no items in {', '.join(map(str, names))}")

    def __len__(self) -> int:
        return self._len

    def __repr__(self) -> str:
        return f"LlavaOneVision({self.root}, {len(self)} records)"

    def record(self, i: int) -> Record:
        which = bisect_right(self._ends, i)
        items, number = self._files[which], i - (self._ends[which - 1] if which else 0)
        return self._reading.from_files(items.name(number), items[number], self._images, self.passed_over)


class LlavaParquet(StreamedSource):
    """The hub's parquet files, one shard each; for `ingest`.

    Args:
      root: folder above the subsets' folders (or one of them).
      untagged, upright: see `conversations.Reading`.
    """

    def __init__(self, root: str | Path, untagged: str = "bad", upright: bool = True):
        self.root, self._reading = files.local_folder(root), Reading(untagged, upright=upright)
        self._names = files.files_below(self.root, (".parquet",), self.passed_over, files.PHOTO_SUFFIXES)
        if not self._names:
            raise DataError(f"{self.root}: holds no .parquet file; type 'llava_onevision' reads JSON")

    def pieces(self, size: int) -> Sequence[Shard]:
        return [ParquetShard(name, self.root, self._reading) for name in self._names]


@dataclasses.dataclass(frozen=True)
class ParquetShard(Shard):
    """The rows of one parquet file."""

    name: str
    root: Path
    reading: Reading

    def __iter__(self) -> Iterator[Record | Bad]:
        import pyarrow
        from pyarrow import parquet

        path, row = self.root / self.name, 0
        try:
            with parquet.ParquetFile(path) as file:
                known = file.schema_arrow.names
                columns = [c for c in known if c in (*PICTURE_KEYS, *VIDEO_KEYS, *TURN_KEYS, *KEPT)]
                if not set(TURN_KEYS) & set(columns):
                    found = ", ".join(known)
                    raise DataError(f"{path}: has no column 'conversations' but {found}; is this LLaVA-OneVision?")
                for column in known:
                    if column not in columns:
                        check_unknown(str(path), column)
                        self.passed_over[f"files with the column '{column}'"] += 1
                for batch in file.iter_batches(_ROWS, columns=columns):
                    for i in range(batch.num_rows):
                        name = f"{self.name}[{row}]"
                        row += 1
                        yield self.guarded(
                            name, lambda name=name, i=i, batch=batch: self._item(name, batch.slice(i, 1))
                        )
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            check_open_files(error)
            reason = f"{path}: cannot be read from row {row} on ({error}); download it again"
            yield Bad(f"{self.name}[{row}:]", "broken parquet", reason)

    def _item(self, name: str, one_row: Any) -> Record:
        try:
            item = one_row.to_pylist()[0]
        except UnicodeDecodeError as error:
            raise BadRecord("not UTF-8", f"{name}: not UTF-8 ({error.reason})") from error
        path = self.root / self.name
        return self.reading.from_cells(name, item, (path.parent, self.root), self.passed_over)
