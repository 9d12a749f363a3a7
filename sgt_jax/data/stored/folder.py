"""A folder of ingested records: one ArrayRecord shard per shard of the source, and what is known about each.

    FOLDER/settings.json            what is being ingested: source, shards, checks. A later run must have the same
    FOLDER/part-00000.array_record  records, see `sgt_jax.data.stored.record`
    FOLDER/part-00000.parquet       name, picture sizes, text lengths and bytes of every record in it
    FOLDER/part-00000.json          counts, size and SHA-256, bad records; written when the part is complete
    FOLDER/manifest.json            all of that together; written when every part is complete

Every file is written under another name and then renamed (see `atomic`), so a file with its final name is complete even if
the writer was killed.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from sgt_jax.data.pictures import reading
from sgt_jax.data.stored import atomic
from sgt_jax.data.stored import record as stored_record
from sgt_jax.data.stored.record import Bad, BadRecord, Record, Shard
from sgt_jax.errors import DataError

VERSION = 1
MANIFEST, SETTINGS = "manifest.json", "settings.json"
CHECKS = ("headers", "all")  # of pictures: can the header be read; can everything be decoded
NAMED = 3  # bad records of a kind that are named in the files
# One record per group, for random access. Pictures are compressed already: this is for text, run lengths and depth.
_WRITER = "group_size:1,zstd:1"


class Stopped(Exception):
    """The run that this shard belongs to has ended."""


def part(root: Path, number: int, suffix: str) -> Path:
    """A file of a part; `suffix` is "array_record", "parquet" or "json"."""
    return root / f"part-{number:05}.{suffix}"


@dataclasses.dataclass
class _Lengths:
    """What length histograms need, a row per record."""

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, record: Record, size: int) -> None:
        """Takes in a record, `size` bytes large.

        Raises:
          BadRecord: the header of a picture cannot be read.
        """

        def wh(data: bytes | None, what: str) -> dict[str, int] | None:
            if data is None:
                return None
            try:
                return dict(zip(("width", "height"), reading.picture_size(data, record.name), strict=True))
            except DataError as error:
                raise BadRecord(f"unreadable {what}", str(error)) from error

        mask = record.mask_picture if record.mask_picture is not None else record.labels
        self.rows.append(
            dict(
                name=record.name,
                bytes=size,
                pictures=[wh(data, "picture") for data in record.images],
                mask=wh(mask, "mask picture"),
                segments=len(record.segments) or len(record.masks),
                read_chars=sum(len(t.text) for t in record.turns if t.role != "assistant"),
                written_chars=sum(len(t.text) for t in record.turns if t.role == "assistant"),
                caption_chars=len(record.caption or ""),
            )
        )

    def write(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        wh = pa.struct([("width", pa.int32()), ("height", pa.int32())])
        numbers = ("bytes", "segments", "read_chars", "written_chars", "caption_chars")
        fields = [("name", pa.string()), ("pictures", pa.list_(wh)), ("mask", wh), *((n, pa.int64()) for n in numbers)]
        parquet.write_table(pa.Table.from_pylist(self.rows, pa.schema(fields)), path, compression="zstd")


def write_part(
    root: Path,
    number: int,
    shard: Shard,
    *,
    on_bad: str,
    check: str,
    tick: Callable[[int, int], None] = lambda count, size: None,
) -> dict[str, Any]:
    """Writes a shard's records, and last its part-NNNNN.json, whose content it returns.

    `tick` is called with the number of records and bytes so far; it may raise `Stopped`.

    Raises:
      BadRecord: on_bad is "error" and a record is bad.
      DataError: the files cannot be written (a full disk).
    """
    target = part(root, number, "array_record")
    temporary = atomic.temporary_path(target)
    lengths, bad, named, size = _Lengths(), Counter(), {}, 0
    writer = None
    try:
        with _writing(target):
            writer = ArrayRecordWriter(os.fspath(temporary), _WRITER)
        for item in shard:
            if not isinstance(item, Bad):
                try:
                    data = stored_record.guarded(item.name, lambda item=item: stored_record.to_bytes(item))
                    if check == "all":
                        stored_record.decode(item)
                    lengths.add(item, len(data))
                except BadRecord as error:
                    item = Bad(item.name, error.kind, str(error))
            if isinstance(item, Bad):
                if on_bad == "error":
                    raise BadRecord(item.kind, item.reason)
                bad[item.kind] += 1
                if len(named.setdefault(item.kind, [])) < NAMED:
                    named[item.kind].append({"name": item.name, "reason": item.reason})
            else:
                with _writing(target):
                    writer.write(data)
                    if not writer.ok():  # it raises only when closed, and a disk may be full long before
                        writer.close()
                size += len(data)
            tick(len(lengths.rows) + bad.total(), size)
        entry = dict(version=VERSION, shard=shard.name, records=len(lengths.rows), bad=dict(bad), bad_named=named)
        entry["passed_over"] = dict(shard.passed_over)
        with _writing(target):
            writer.close()
            if lengths.rows:
                entry |= _settle(target, temporary, len(lengths.rows))
                with atomic.replacing(part(root, number, "parquet")) as path:
                    lengths.write(path)
            else:
                entry |= dict(bytes=0, sha256="")
            write_json(part(root, number, "json"), entry)
        return entry
    finally:
        if writer is not None and writer.is_open():
            _close(writer)
        temporary.unlink(missing_ok=True)


def _writing(target: Path) -> contextlib.AbstractContextManager[None]:
    return atomic.writing(target, "finished parts are kept: make room and run the same command again")


def _settle(target: Path, temporary: Path, expected: int) -> dict[str, Any]:
    """Moves a written shard to its place; its size and hash."""
    reader = ArrayRecordReader(os.fspath(temporary))
    found = reader.num_records()
    reader.close()
    if found != expected:
        raise OSError(f"{found} of {expected} records arrived")
    with open(temporary, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    atomic.settle(temporary, target)
    return dict(bytes=target.stat().st_size, sha256=digest)


def _close(writer: ArrayRecordWriter) -> None:
    """Ends a file that is thrown away: that it could not be written was said already, or does not matter."""
    try:
        writer.close()
    except RuntimeError:
        pass


def problem(root: Path, number: int, name: str, verify: bool = False) -> str | None:
    """Why a part is not finished, or None if it is; `verify` compares the hash, too."""
    try:
        entry = json.loads(part(root, number, "json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "not written"
    except (OSError, ValueError) as error:
        return f"its part-{number:05}.json cannot be read ({error})"
    if (entry.get("version"), entry.get("shard")) != (VERSION, name):
        return f"it holds {entry.get('shard')!r} and not {name!r}"
    return wrong_file(root, number, entry, verify)


def wrong_file(root: Path, number: int, entry: Mapping[str, Any], verify: bool = False) -> str | None:
    """What is wrong with the shard of a part according to its entry, naming the file; None if nothing is."""
    if not entry["records"]:
        return None
    path = part(root, number, "array_record")
    try:
        size = path.stat().st_size
    except OSError as error:
        return f"{path}: is missing ({error.strerror})"
    if size != entry["bytes"]:
        return f"{path}: has {size} bytes instead of {entry['bytes']}: cut off, or of another run"
    if verify:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                return f"{path}: is damaged: its SHA-256 differs from its part-{number:05}.json"
    return None


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a finished folder.

    Raises:
      DataError: there is none, or of another version.
    """
    path = root / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if (root / SETTINGS).exists():
            raise DataError(f"{root}: ingest has not finished here; run the same `ingest` command again") from error
        raise DataError(f"{path}: no such file; `python -m sgt_jax ingest ... {root}` writes records there") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run the same `ingest` command again") from error
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise DataError(f"{path}: not a manifest of version {VERSION}; ingest the data again")
    return manifest


def write_manifest(
    root: Path, settings: Mapping[str, Any], count: int, passed_over: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Joins the parts' entries, once all are there, and returns the manifest.

    `passed_over` is what the source did not read on opening.
    """
    entries = [json.loads(part(root, i, "json").read_text(encoding="utf-8")) for i in range(count)]
    bad: Counter = Counter()
    passed_over = Counter(passed_over)
    named: dict[str, list] = {}
    for entry in entries:
        bad.update(entry["bad"])
        passed_over.update(entry.get("passed_over", {}))
        for kind, some in entry["bad_named"].items():
            named[kind] = (named.get(kind, []) + some)[:NAMED]
    manifest = dict(
        version=VERSION,
        source=settings["source"],
        check=settings["check"],
        records=sum(e["records"] for e in entries),
        bytes=sum(e["bytes"] for e in entries),
        bad=dict(bad),
        bad_named=named,
        passed_over=dict(passed_over),
        lengths=_summary(root, entries),
        parts=[{key: e[key] for key in ("shard", "records", "bytes", "sha256", "bad")} for e in entries],
    )
    write_json(root / MANIFEST, manifest)
    return manifest


def lengths(root: Path, numbers: Sequence[int]) -> Any:
    """The rows of part-NNNNN.parquet of some parts, as a pyarrow table."""
    import pyarrow as pa
    from pyarrow import parquet

    return pa.concat_tables([parquet.read_table(part(root, number, "parquet")) for number in numbers])


def _summary(root: Path, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Quantiles over all records, for a first look."""
    import numpy as np

    numbers = [i for i, entry in enumerate(entries) if entry["records"]]
    if not numbers:
        return {}
    table = lengths(root, numbers)
    pictures = table["pictures"].combine_chunks()
    flat = pictures.flatten()
    found = {
        "pictures per record": pictures.value_lengths(),
        "picture width": flat.field("width"),
        "picture height": flat.field("height"),
        "segments": table["segments"],
        "characters read": table["read_chars"],
        "characters written": table["written_chars"],
    }
    levels = {"min": 0, "median": 0.5, "95%": 0.95, "max": 1}
    arrays = {what: np.asarray(values) for what, values in found.items()}
    return {
        what: {name: float(np.quantile(values, level)) for name, level in levels.items()}
        for what, values in arrays.items()
        if values.size
    }


def write_json(path: Path, content: Any) -> None:
    """Writes JSON at once or not at all."""
    atomic.write_text(path, json.dumps(content, indent=1, ensure_ascii=False))
