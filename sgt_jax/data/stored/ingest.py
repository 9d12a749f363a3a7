"""Converts any source to a folder of records, shard by shard in several processes; it may be killed and started again."""

import contextlib
import dataclasses
import fcntl
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

from sgt_jax.data.sources import open_source
from sgt_jax.data.sources.reading import files
from sgt_jax.data.stored import folder
from sgt_jax.data.stored.record import Shard
from sgt_jax.errors import DataError

POLL_S = 0.25  # how often progress is looked at


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is. `total` is the number of records, or None where the source cannot know it beforehand."""

    parts: int
    all_parts: int
    records: int
    bytes: int
    total: int | None


def ingest(
    spec: Mapping[str, Any],
    out: str | Path,
    *,
    workers: int = 0,
    on_bad: str = "error",
    check: str = "headers",
    shard_size: int = 5000,
    verify: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Writes what `spec` describes as records, or what is missing of that, and returns the manifest.

    Args:
      spec: of the source, as in a config: {"type": NAME, **options}.
      out: folder to write to; see `stored.folder`.
      workers: processes; 0 works in this one.
      on_bad: "error" ends the run at the first bad record, "skip" leaves such records out, counted and named.
      check: one of `folder.CHECKS`.
      shard_size: records per part where the source has no pieces of its own.
      verify: compare the hashes of parts that are there; damaged ones are written again.
      report: is told of the progress several times a second.

    Raises:
      BadRecord: on_bad is "error" and a record is bad.
      DataError: the source cannot be read, `out` holds something else, the disk is full, or a worker died. Finished
        parts stay, and the same call goes on from there.
    """
    files.check_on_bad(on_bad)
    if check not in folder.CHECKS:
        raise DataError(f"check={check!r}: choose one of {', '.join(folder.CHECKS)}")
    if str(out).startswith("gs://"):
        raise DataError(f"{out}: records are written to a local or mounted folder; mount the bucket (gcsfuse)")
    source = open_source(spec, on_bad=on_bad)
    if not hasattr(source, "shards"):
        raise DataError(f"a source of type '{spec.get('type')}' is made on the fly and needs no ingest")
    shards = list(source.shards(shard_size))
    passed_over = dict(source.passed_over)
    root = Path(out)
    root.mkdir(parents=True, exist_ok=True)
    with _alone(root):
        settings = _begin(root, spec, [shard.name for shard in shards], check)
        found = [folder.problem(root, i, shard.name, verify) for i, shard in enumerate(shards)]
        todo = [i for i, problem in enumerate(found) if problem]
        if todo:
            (root / folder.MANIFEST).unlink(missing_ok=True)  # the folder is not whole
            _Run(root, shards, on_bad, check, _Shared.of(len(shards))).write(todo, workers, report)
        return folder.write_manifest(root, settings, len(shards), passed_over)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Refuses a second run in the same folder, and removes what a killed one left half written."""
    with open(root / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{root}: another ingest is writing here; wait for it, or end it") from error
        except OSError:
            pass  # a mount without locks: there is nothing to hold on to
        for leftover in root.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        yield


def _begin(root: Path, spec: Mapping[str, Any], names: Sequence[str], check: str) -> dict[str, Any]:
    """The settings of a folder: written in a new one, compared in one that was begun."""
    settings = dict(version=folder.VERSION, source=dict(spec), check=check, shards=list(names))
    settings = json.loads(json.dumps(settings, default=str))  # as it comes back
    path = root / folder.SETTINGS
    if not path.exists():
        if next(root.glob("part-*"), None):
            raise DataError(f"{root}: holds part-* files of something else; choose an empty folder")
        folder.write_json(path, settings)
        return settings
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); remove the folder and start again") from error
    if differing := [key for key in settings if begun.get(key) != settings[key]]:
        details = "; ".join(f"{key} was {begun.get(key)!r:.200} and is {settings[key]!r:.200}" for key in differing)
        raise DataError(f"{root}: was begun with other settings ({details}); choose another folder, or remove this one")
    return settings


_SPAWN = multiprocessing.get_context("spawn")


class _Shared(NamedTuple):
    """Memory that workers write to. Without locks, which a killed worker would hold for ever: a number has one writer."""

    records: Any  # per shard
    bytes: Any  # per shard
    stop: Any  # the run has ended

    @classmethod
    def of(cls, shards: int) -> "_Shared":
        return cls(_SPAWN.RawArray("q", shards), _SPAWN.RawArray("q", shards), _SPAWN.RawValue("b", 0))


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run, as this process and its workers know it."""

    root: Path
    shards: Sequence[Shard]
    on_bad: str
    check: str
    shared: _Shared

    def write(self, todo: Sequence[int], workers: int, report: Callable[[Progress], None]) -> None:
        """Writes parts; the first error ends all."""
        counts = [self.shards[i].count for i in todo]
        total = None if None in counts else sum(counts)
        left = set(todo)

        def tell() -> None:
            report(Progress(len(todo) - len(left), len(todo), sum(self.shared.records), sum(self.shared.bytes), total))

        tell()
        if not workers:
            for number in todo:
                self.part(number, tell)
                left.discard(number)
                tell()
            return
        pool = futures.ProcessPoolExecutor(min(workers, len(todo)), _SPAWN, _start_worker, (self,))
        try:
            waiting = {pool.submit(_work, number): number for number in todo}
            while waiting:
                done, _ = futures.wait(waiting, POLL_S, futures.FIRST_COMPLETED)
                for future in done:
                    future.result()
                    left.discard(waiting.pop(future))
                tell()
        except BrokenProcessPool as error:
            begun = [folder.part(self.root, i, "array_record").name for i in sorted(left) if self.shared.records[i]]
            raise DataError(
                f"{self.root}: a worker process was killed (out of memory?) while it wrote {', '.join(begun) or 'a part'};"
                " finished parts are kept: run the same command again, perhaps with fewer --workers"
            ) from error
        finally:
            self.shared.stop.value = 1
            pool.shutdown(cancel_futures=True)

    def part(self, number: int, tell: Callable[[], None] = lambda: None) -> None:
        """Writes one part in this process."""

        told = time.monotonic()

        def tick(count: int, size: int) -> None:
            nonlocal told
            self.shared.records[number], self.shared.bytes[number] = count, size
            if time.monotonic() - told > POLL_S:
                told = time.monotonic()
                tell()
            if self.shared.stop.value:
                raise folder.Stopped

        options = dict(on_bad=self.on_bad, check=self.check, tick=tick)
        folder.write_part(self.root, number, self.shards[number], **options)


_worker: _Run | None = None  # of a worker process


def _start_worker(run: _Run) -> None:
    """Called once in every worker process, so that the shards travel once and not with every task."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    # A parent that was killed says nothing: without this its workers would write on, or wait for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = run


def _end_with_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _work(number: int) -> None:
    with contextlib.suppress(folder.Stopped):
        _worker.part(number)
