"""Tar archives read in place: where every member lies, so that they can be paired in any order and none is unpacked.

Nothing is ever written to disk, so a hostile path can do no harm; it is counted as bad all the same, as are links. A
`._NAME` of macOS and folders are no members.
"""

import dataclasses
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from sgt_jax.data.examples import DataError
from sgt_jax.data.records import Bad, BadRecord


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
    """

    path: Path
    members: dict[str, Member]
    bad: tuple[Bad, ...]


def scan(path: Path) -> Archive:
    """Reads the headers of a tar; its contents are skipped.

    Raises:
      DataError: no such file, or not an uncompressed tar.
    """
    members: dict[str, Member] = {}
    bad: list[Bad] = []
    size = path.stat().st_size if path.is_file() else 0
    try:
        tar = tarfile.open(path, "r:")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such archive") from error
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{path}: not a plain tar ({error}); decompress it, or download it again") from error
    with tar:
        try:
            for info in tar:
                name, where = str(PurePosixPath(info.name)), f"{path}/{info.name}"
                if info.isdir() or PurePosixPath(name).name.startswith("._"):
                    continue
                if not info.isfile():
                    bad.append(
                        Bad(where, "link in archive", f"{where}: a link or device, not a file; pack the file itself")
                    )
                elif PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    bad.append(
                        Bad(where, "unsafe member", f"{where}: points outside the archive; pack it again without")
                    )
                elif info.offset_data + info.size > size:
                    bad.append(_cut_off(path, f"inside {info.name}"))
                elif name in members:
                    bad.append(
                        Bad(where, "duplicate member", f"{where}: is twice in the archive; the first one counts")
                    )
                else:
                    members[name] = Member(info.offset_data, info.size)
        except (tarfile.TarError, OSError) as error:
            bad.append(_cut_off(path, f"after {len(members)} files ({error})"))
    return Archive(path, members, tuple(dict.fromkeys(bad)))


def _cut_off(path: Path, where: str) -> Bad:
    return Bad(str(path), "broken archive", f"{path}: breaks off {where}; download it again")


def read(file: BinaryIO, archive: Archive, name: str) -> bytes:
    """The content of a member; `file` is the opened tar.

    Raises:
      BadRecord: it is empty, or the file is shorter than its headers said.
    """
    offset, size = archive.members[name]
    file.seek(offset)
    data = file.read(size)
    if not data or len(data) < size:
        raise BadRecord("unreadable member", f"{archive.path}/{name}: empty or cut off; download the archive again")
    return data
