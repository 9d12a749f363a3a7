"""Tokenised examples on disk: what `sgt_jax tokenize` writes once and training reads in place of pixels.

    FOLDER/settings.json            what the targets are and which autoencoder made them; a run compares this with its config
    FOLDER/part-00000.array_record  records in the order of the source: condition, moments of the targets, a preview
    FOLDER/part-00000.json          how many records the part holds, and what was left out and why

A part is written under another name and then renamed, so a part that exists is complete; missing ones can be made later, also
by other machines.
"""

import functools
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from sgt_jax.data.stored import atomic
from sgt_jax.data.stored import record as stored_record
from sgt_jax.data.stored.record import Bad, Record, Source
from sgt_jax.errors import DataError

SETTINGS = "settings.json"


class Tokenised(Source):
    """Random access to a folder of tokenised examples; all its parts must be there.

    Attributes:
      settings: what was written into settings.json.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.settings = read_settings(self.root)
        if self.settings is None:
            raise DataError(f"{self.root}: holds no tokenised examples; make them with `python -m sgt_jax tokenize`")
        absent = missing_parts(self.root, self.settings)
        if absent:
            raise DataError(
                f"{self.root}: {len(absent)} of {self.settings['parts']} parts are missing (the first is {absent[0]}); "
                "run `python -m sgt_jax tokenize` again: it makes what is missing"
            )
        counts = [part_report(self.root, i)["records"] for i in range(self.settings["parts"])]
        files = [part_path(self.root, i) for i, count in enumerate(counts) if count]
        if not files:
            raise DataError(f"{self.root}: every record was left out when it was tokenised; see its part-*.json")
        self._data = ArrayRecordDataSource([os.fspath(path) for path in files])
        if len(self._data) != sum(counts):
            raise DataError(f"{self.root}: holds {len(self._data)} records instead of {sum(counts)}; tokenise it again")

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"Tokenised({self.root}, {len(self)} records)"

    def record(self, i: int) -> Record:
        return stored_record.from_bytes(self._data[i], f"{self.root}[{i}]")


def read_settings(root: Path) -> dict[str, Any] | None:
    """What a folder was made with, or None if it was not begun."""
    path = root / SETTINGS
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); remove the folder and tokenise again") from error


def begin(root: Path, settings: Mapping[str, Any]) -> None:
    """Starts a folder, or checks that what it was started with is the same.

    Raises:
      DataError: it was started with other settings; the message names them.
    """
    found = read_settings(root)
    if found is None:
        root.mkdir(parents=True, exist_ok=True)
        atomic.write_text(root / SETTINGS, json.dumps(settings, indent=1))
    elif different := differences(found, settings):
        raise DataError(f"{root}: was tokenised differently: {different}; choose another folder or remove this one")


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Where two settings differ, in words; "" if nowhere."""
    wanted = json.loads(json.dumps(wanted))
    names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    return "; ".join(f"{name} {found.get(name)!r} there, {wanted.get(name)!r} here" for name in names)


def part_path(root: Path, number: int) -> Path:
    """Where a part's records are."""
    return root / f"part-{number:05d}.array_record"


def part_report(root: Path, number: int) -> dict[str, Any]:
    """{"records": n, "bad": {kind: [count, the first one's reason]}} of a part that is there."""
    return json.loads((root / f"part-{number:05d}.json").read_text())


def missing_parts(root: Path, settings: Mapping[str, Any]) -> list[int]:
    """Numbers of the parts that are not there yet."""
    return [i for i in range(settings["parts"]) if not (root / f"part-{i:05d}.json").exists()]


def write_part(root: Path, number: int, items: Iterable[Record | Bad]) -> dict[str, Any]:
    """Writes one part; its report comes last, so a part with a report is whole. Returns the report."""
    path = part_path(root, number)
    # The same name every time: the next attempt overwrites what a killed one left.
    temporary = path.with_suffix(".writing")
    count, bad = 0, {}
    writing = functools.partial(atomic.writing, path, "finished parts are kept: make room and run the same command again")
    # One record a group: read at random, each costs one read.
    with writing():
        writer = ArrayRecordWriter(os.fspath(temporary), "group_size:1")
    for item in items:
        if isinstance(item, Bad):
            bad.setdefault(item.kind, [0, item.reason])[0] += 1
            continue
        data = stored_record.to_bytes(item)
        with writing():
            writer.write(data)
        count += 1
    report = {"records": count, "bad": bad}
    with writing():
        writer.close()  # it raises only now if the disk was full
        if count:
            atomic.settle(temporary, path)
        else:
            temporary.unlink()
        atomic.write_text(root / f"part-{number:05d}.json", json.dumps(report))
    return report


def npy(array: np.ndarray) -> bytes:
    """An array as the bytes of an .npy file."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
