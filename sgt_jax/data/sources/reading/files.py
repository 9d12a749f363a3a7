"""Finds, pairs and reads files, for every source that reads folders.

Paths are relative to a folder and written with "/". Suffixes count in any case, and `._NAME`, which archives made on macOS
hold beside every NAME, is never a file of the data.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from sgt_jax.data.stored.record import Bad, BadRecord
from sgt_jax.errors import DataError

logger = logging.getLogger(__name__)

REPORTED = 5  # bad records of a kind that are logged one by one
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def local_folder(path: str | Path, advice: str = "check the path") -> Path:
    """The folder as a Path.

    Raises:
      DataError: it lies in a bucket, or there is none; the message ends with `advice`.
    """
    if str(path).startswith("gs://"):
        raise DataError(f"{path}: training data must be local or mounted; mount the bucket (gcsfuse) or copy it")
    if not Path(path).is_dir():
        raise DataError(f"{path}: no such folder; {advice}")
    return Path(path)


def empty(folder: Path) -> DataError:
    """The error for a folder without any record."""
    return DataError(f"{folder}: holds no pictures ({', '.join(PHOTO_SUFFIXES)}); check the path, unpack the archives")


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Relative paths of the files below a folder, sorted. Symbolic links are followed: data often lie elsewhere."""
    found = []
    for directory, folders, names in os.walk(folder, followlinks=True):
        below = Path(directory).relative_to(folder)
        found += [(below / name).as_posix() for name in names if has_suffix(name, suffixes)]
        folders[:] = [name for name in folders if not _leads_up(os.path.join(directory, name))]
    return sorted(found)


def _leads_up(path: str) -> bool:
    """Whether a link leads to a folder that it lies in: followed, every file there would come again and again."""
    if not os.path.islink(path):
        return False
    target = os.path.realpath(path)
    return os.path.commonpath([target, os.path.realpath(os.path.dirname(path))]) == target


def has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a file is of the data: one of the suffixes (lower-case, with the dot), and no companion of macOS."""
    return name.lower().endswith(suffixes) and not PurePosixPath(name).name.startswith("._")


def stem(name: str, ending: str = "") -> str:
    """A relative path without its last suffix, which is what paired files share: 'a.b/c.d.jpg' -> 'a.b/c.d'.

    `ending` goes too where it is there: 'x_leftImg8bit.png' -> 'x' with ending '_leftImg8bit'.
    """
    return str(PurePosixPath(name).with_suffix("")).removesuffix(ending)


def by_stem(names: Iterable[str], ending: str = "") -> dict[str, list[str]]:
    """{stem: names that have it}, in the order of `names`; only those whose stem has `ending`."""
    found: dict[str, list[str]] = {}
    for name in names:
        if stem(name).endswith(ending):
            found.setdefault(stem(name, ending), []).append(name)
    return found


def the_one(named: Mapping[str, Sequence[str]], key: str, what: str, where: str, expected: str = "") -> str:
    """The one name with the stem `key` in what `by_stem` gave.

    Raises:
      BadRecord: there is none, or several; the message begins with `where` and says what was `expected`.
    """
    found = named.get(key, ())
    if not found:
        raise BadRecord(
            f"missing {what}", f"{where}: '{key}' has no {what}" + (f", expected {expected}" * bool(expected))
        )
    if len(found) > 1:
        both = " and ".join(found)
        raise BadRecord(f"ambiguous {what}", f"{where}: {both} differ only in their suffix; remove one of them")
    return found[0]


def read_bytes(path: Path, what: str = "picture") -> bytes:
    """The content of a file of a record.

    Raises:
      BadRecord: it is not there or cannot be read, or is empty.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BadRecord(f"missing {what}", f"{path}: no such {what}; download it again or remove the record") from error
    except OSError as error:
        raise BadRecord(f"unreadable {what}", f"{path}: {what}: {error}") from error
    if not data:
        raise BadRecord(f"unreadable {what}", f"{path}: the {what} is an empty file; download it again")
    return data


def check_on_bad(on_bad: str) -> None:
    """Refuses anything but "error" and "skip"."""
    if on_bad not in ("error", "skip"):
        raise DataError(f"on_bad={on_bad!r}: choose 'error' or 'skip'")


def accept_bad(found: Sequence[Bad], on_bad: str, where: str) -> tuple[Bad, ...]:
    """What a source found bad on opening: raises the first ("error"), or logs and returns all ("skip").

    Raises:
      DataError: there is one and `on_bad` is "error".
    """
    check_on_bad(on_bad)
    if found and on_bad == "error":
        rest = f" ({len(found)} such in all)" if len(found) > 1 else ""
        raise BadRecord(found[0].kind, found[0].reason + rest)
    counts: Counter = Counter()
    for bad in found:
        counts[bad.kind] += 1
        if counts[bad.kind] <= REPORTED:
            logger.warning("%s", bad.reason)
    if found:
        logger.warning("%s, left out: %s", where, ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
    return tuple(found)


def inside(folder: Path, name: str, what: str = "picture") -> Path:
    """The file `name`, a relative path found in somebody's list, below `folder`.

    Raises:
      BadRecord: it points elsewhere.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0] == "/" or "\0" in name:
        raise BadRecord(
            "path outside", f"{folder}: the {what} path {name!r} points outside this folder; make it relative"
        )
    return folder / name
