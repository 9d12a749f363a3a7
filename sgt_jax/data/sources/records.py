"""Records that `python -m sgt_jax ingest` wrote: random access to ArrayRecord shards, for training."""

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader

from sgt_jax.data.sources.reading import files
from sgt_jax.data.stored import folder
from sgt_jax.data.stored import record as stored_record
from sgt_jax.data.stored.boundary import check_open_files, check_unchanged, stamp
from sgt_jax.data.stored.record import BadRecord, Record, Source
from sgt_jax.errors import DataError

_BUFFER = 2**15  # bytes; records are read one by one


class Readers:
    """Open shards, the `most` that were read last: opening costs time, and a process may hold some thousand files only.

    Threads may share it: a reader that is closed here while another thread reads stays open until that has ended. It
    can be pickled and is then empty.
    """

    def __init__(self, most: int = 64) -> None:
        self._most, self._lock, self._readers = most, threading.Lock(), OrderedDict()

    def __reduce__(self) -> tuple:
        return Readers, (self._most,)

    def read(self, path: str, place: int) -> bytes:
        """Record `place` of a shard.

        Raises:
          RuntimeError, ValueError, IndexError, OSError: it cannot be read.
        """
        return self._reader(path).read([place])[0]

    def _reader(self, path: str) -> ArrayRecordReader:
        with self._lock:
            if path in self._readers:
                self._readers.move_to_end(path)
                return self._readers[path]
            while len(self._readers) >= self._most:
                self._readers.popitem(last=False)
            try:
                reader = _opened(path)
            except (RuntimeError, ValueError, OSError):
                self._readers.clear()  # perhaps it was one file too many
                reader = _opened(path)
            self._readers[path] = reader
            return reader


def _opened(path: str) -> ArrayRecordReader:
    with open(path, "rb"):
        pass  # Python says why a file cannot be opened; the reader does not
    return ArrayRecordReader(path, "readahead_buffer_size:0", file_reader_buffer_size=_BUFFER)


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
        self._open = Readers()
        self._stamps = [stamp(path) for path in self._paths]
        self._len = self._ends[-1] if limit is None else min(limit, self._ends[-1])

    def __len__(self) -> int:
        return self._len

    def __repr__(self) -> str:
        return f"Records({self.root}, {len(self)} records)"

    def record(self, i: int) -> Record:
        part = bisect_right(self._ends, i)
        place = i - (self._ends[part - 1] if part else 0)
        where = f"{self._paths[part]}[{place}]"
        try:
            check_unchanged(self._paths[part], self._paths[part], self._stamps[part])
            data = self._open.read(self._paths[part], place)
        except BadRecord:
            raise
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            check_open_files(error)
            advice = "`ingest --verify` writes damaged shards again"
            raise BadRecord("damaged shard", f"{where}: cannot be read ({error}); {advice}") from error
        return stored_record.from_bytes(data, where)
