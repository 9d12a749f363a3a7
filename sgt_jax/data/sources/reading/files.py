"""Finds, pairs and reads files, for every source that reads folders.

Paths are relative to a folder and written with "/". Suffixes count in any case, and `._NAME`, which archives made on macOS
hold beside every NAME, is never a file of the data.
"""

import codecs
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from sgt_jax.data.stored.boundary import BadRecord, check_open_files, printable
from sgt_jax.data.stored.places import regular
from sgt_jax.data.stored.record import Bad
from sgt_jax.errors import DataError, beside

logger = logging.getLogger(__name__)

REPORTED = 5  # bad records of a kind that are logged one by one
# What Pillow reads, and HEIC, which it reads with pillow-heif.
PHOTO_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".jfif", ".jpe", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2", ".j2k", ".jpx",
    ".ppm", ".pgm", ".tga", ".apng", ".mpo", ".heic", ".heif",
)  # fmt: skip
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_SYSTEM_FILES = (".ds_store", "thumbs.db", "desktop.ini")  # of no data set


def local_folder(path: str | Path, advice: str = "check the path") -> Path:
    """The folder as a Path.

    Raises:
      DataError: it lies in a bucket, or there is none; the message ends with `advice`.
    """
    if str(path).startswith("gs://"):
        raise DataError(f"{path}: training data must be local or mounted; mount the bucket (gcsfuse) or copy it")
    if not Path(path).is_dir():
        raise DataError(f"{path}: no such folder{beside(path)}; {advice}")
    return Path(path)


def empty(folder: Path) -> DataError:
    """The error for a folder without any record."""
    return DataError(f"{folder}: holds no pictures ({', '.join(PHOTO_SUFFIXES)}); check the path, unpack the archives")


def files_below(
    folder: Path, suffixes: tuple[str, ...], passed_over: Counter | None = None, also: tuple[str, ...] = ()
) -> list[str]:
    """Relative paths of the files below a folder, sorted.

    Symbolic links are followed, as data often lie elsewhere, but no folder is read twice, so links in a circle end.
    `passed_over` counts the files with other suffixes, those in `also` left out, and links to folders that were read
    already.
    """
    found = []
    for below, names in _folders(folder, passed_over):
        for name in names:
            if has_suffix(name, suffixes):
                found.append(f"{below}/{name}" if below else name)
            elif passed_over is not None and not (name.lower().endswith(also) or _of_system(name)):
                passed_over[f"files {PurePosixPath(name).suffix.lower() or printable(name)}"] += 1
    return sorted(found)


def _of_system(name: str) -> bool:
    return name.startswith("._") or name.lower() in _SYSTEM_FILES


def _folders(folder: Path, passed_over: Counter | None) -> Iterator[tuple[str, list[str]]]:
    """(relative path, names of files) of every folder below one; first those without links on the way."""
    links, seen = [str(folder)], set()
    while links:
        top = links.pop(0)
        for directory, folders, names in os.walk(top):
            status = os.stat(directory)
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                if passed_over is not None:
                    passed_over["links to folders that were read already"] += 1
                continue
            seen.add((status.st_dev, status.st_ino))
            links += sorted(path for name in folders if os.path.islink(path := os.path.join(directory, name)))
            below = os.path.relpath(directory, folder)
            yield "" if below == "." else below, names


def has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a file is of the data: one of the suffixes (lower-case, with the dot), and no companion of macOS."""
    return name.lower().endswith(suffixes) and not PurePosixPath(name).name.startswith("._")


def stem(name: str, ending: str = "") -> str:
    """A relative path without its last suffix, which is what paired files share: 'a.b/c.d.jpg' -> 'a.b/c.d'.

    `ending` goes too where it is there: 'x_leftImg8bit.png' -> 'x' with ending '_leftImg8bit'.
    """
    # One accent may be written in two ways (macOS decomposes names): both are one stem.
    return unicodedata.normalize("NFC", str(PurePosixPath(name).with_suffix(""))).removesuffix(ending)


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
        data = regular(path).read_bytes()
    except DataError as error:
        raise BadRecord(f"unreadable {what}", str(error)) from error
    except FileNotFoundError as error:
        raise BadRecord(f"missing {what}", f"{path}: no such {what}; download it again or remove the record") from error
    except OSError as error:
        check_open_files(error)
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
    # As it is written, then with the separators of Windows, then with accents written in the other ways.
    written = [name, name.replace("\\", "/")]
    written += [unicodedata.normalize(form, written[1]) for form in ("NFC", "NFD")]
    return next((folder / one for one in written if os.path.exists(folder / one)), folder / written[1])


def text_of(data: bytes) -> str:
    """The text of a small file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
      UnicodeDecodeError: neither.
    """
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if utf16 else "utf-8-sig")


def report(passed_over: Mapping[str, int], where: object) -> None:
    """Logs what a source did not read, if there is any."""
    if passed_over:
        logger.warning("%r: passed over: %s", where, listed(passed_over))


def listed(passed_over: Mapping[str, int]) -> str:
    """'3 files .txt, 1 files .md', the most first."""
    return ", ".join(
        f"{n:,} {what}" for what, n in sorted(passed_over.items(), key=lambda entry: (-entry[1], entry[0]))
    )
