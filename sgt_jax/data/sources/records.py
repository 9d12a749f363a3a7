"""Records that `python -m sgt_jax ingest` wrote: random access to ArrayRecord shards, for training."""

import os
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from array_record.python.array_record_data_source import ArrayRecordDataSource

from sgt_jax.data.sources.reading import files
from sgt_jax.data.stored import folder
from sgt_jax.data.stored import record as stored_record
from sgt_jax.data.stored.record import BadRecord, Record, Source
from sgt_jax.errors import DataError


class _Instruction(NamedTuple):
    """A whole shard whose length is known, so that opening a thousand shards opens no file."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


class Records(Source):
    """Random access to a folder of records, in the order in which they were written.

    Args:
      root: folder written by `ingest`.
      limit: use only the first so many records.

    Raises:
      DataError: ingest has not finished there, holds nothing, or a shard is missing or cut off; the message names it.
    """

    def __init__(self, root: str | Path, limit: int | None = None):
        self.root = files.local_folder(root, "`python -m sgt_jax ingest` writes it")
        parts = folder.read_manifest(self.root)["parts"]
        for number, entry in enumerate(parts):
            if problem := folder.wrong_file(self.root, number, entry):
                raise DataError(f"{problem}; copy it again, or run the same `ingest` command again")
        filled = [(i, entry["records"]) for i, entry in enumerate(parts) if entry["records"]]
        if not filled:
            raise DataError(f"{self.root}: all records were bad when they were ingested; see {folder.MANIFEST}")
        self._paths = [os.fspath(folder.part(self.root, i, "array_record")) for i, _ in filled]
        counts = [count for _, count in filled]
        self._ends = list(accumulate(counts))
        self._data = ArrayRecordDataSource(
            [_Instruction(path, 0, count, count) for path, count in zip(self._paths, counts, strict=True)]
        )
        self._len = self._ends[-1] if limit is None else min(limit, self._ends[-1])

    def __len__(self) -> int:
        return self._len

    def __repr__(self) -> str:
        return f"Records({self.root}, {len(self)} records)"

    def record(self, i: int) -> Record:
        part = bisect_right(self._ends, i)
        where = f"{self._paths[part]}[{i - (self._ends[part - 1] if part else 0)}]"
        try:
            data = self._data[i]
        except (RuntimeError, ValueError, IndexError) as error:
            advice = "`ingest --verify` writes damaged shards again"
            raise BadRecord("damaged shard", f"{where}: cannot be read ({error}); {advice}") from error
        return stored_record.from_bytes(data, where)
