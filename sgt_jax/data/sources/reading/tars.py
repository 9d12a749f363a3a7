"""Reads tar archives in place: knows where every member is, so members pair in any order and nothing is unpacked.

Nothing is written to disk, so a hostile path can do no harm; it is counted as bad all the same, as are links. Folders and
the `._NAME` files of macOS are ignored.
"""

import dataclasses
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from sgt_jax.data.stored.boundary import BadRecord, Stamp, check_open_files, check_unchanged, stamp
from sgt_jax.data.stored.record import Bad
from sgt_jax.errors import DataError

_TAIL = 2**20  # bytes behind the end mark that are looked at; tars are padded to some kilobytes


class Member(NamedTuple):
    """Where a file lies in its archive, in bytes."""

    offset: int
    size: int


@dataclasses.dataclass(frozen=True)
class Archive:
    """The contents of a tar.

    Attributes:
      path: of the tar.
      members: path inside the tar ("/" between folders, no leading "./") -> place.
      bad: entries that cannot be used, and the end of an archive that breaks off.
      stamp: size and time of the tar when it was scanned.
    """

    path: Path
    members: dict[str, Member]
    bad: tuple[Bad, ...]
    stamp: Stamp = (0, 0)


def scan(path: Path) -> Archive:
    """Reads the headers of a tar; its contents are skipped.

    A file that is no tar, or a compressed one, has no members and one bad entry.

    Raises:
      DataError: no such file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such archive")
    members: dict[str, Member] = {}
    if not path.name.lower().endswith(".tar"):
        reason = (
            f"{path}: is compressed and cannot be read in place; decompress it (gunzip, or tar's own) and keep the .tar"
        )
        return Archive(path, members, (Bad(str(path), "compressed archive", reason),))
    bad: list[Bad] = []
    end, _ = known = stamp(path)
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                name = PurePosixPath(info.name)
                if info.isdir() or name.name.startswith("._"):
                    continue
                if info.isfile() and info.offset_data + info.size > end:
                    raise tarfile.ReadError(f"inside {name}")
                if problem := _problem(info, name, members):
                    kind, advice = problem
                    bad.append(Bad(f"{path}/{name}", kind, f"{path}/{name}: {advice}"))
                else:
                    members[str(name)] = Member(info.offset_data, info.size)
            if problem := _bad_end(path, tar.offset):
                raise tarfile.ReadError(problem)
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        check_open_files(error)
        reason = f"{path}: breaks off after {len(members)} files, or is no plain tar ({error})"
        bad.append(Bad(str(path), "broken archive", f"{reason}; download it again, decompress it"))
    return Archive(path, members, tuple(bad), known)


def _bad_end(path: Path, offset: int) -> str:
    """What is wrong behind the last member: tarfile ends silently at damaged headers and at the end of joined tars."""
    with open(path, "rb") as file:
        file.seek(offset)
        rest = file.read(_TAIL)
    if len(rest) < tarfile.BLOCKSIZE or any(rest[: tarfile.BLOCKSIZE]):
        return f"no end mark at byte {offset}"
    return f"more data behind the end mark at byte {offset}: joined tars" if any(rest) else ""


def _problem(info: tarfile.TarInfo, name: PurePosixPath, members: Mapping[str, Member]) -> tuple[str, str] | None:
    """Kind and advice for an entry that cannot be used."""
    if name.is_absolute() or ".." in name.parts:
        return "unsafe member", "points outside the archive; pack it again"
    if not info.isfile():
        return "link in archive", "a link or device, not a file; pack the file itself"
    if info.issparse():
        return "sparse member", "a sparse file; pack it again without --sparse"
    if str(name) in members:
        return "duplicate member", "is twice in the archive; the first one counts"
    return None


def read(file: BinaryIO, archive: Archive, name: str) -> bytes:
    """The content of a member; `file` is the opened tar.

    Raises:
      BadRecord: it is empty, or the file is shorter than its headers said.
    """
    check_unchanged(file.fileno(), archive.path, archive.stamp)
    offset, size = archive.members[name]
    file.seek(offset)
    data = file.read(size)
    if not data or len(data) < size:
        raise BadRecord("unreadable member", f"{archive.path}/{name}: empty or cut off; download the archive again")
    return data
