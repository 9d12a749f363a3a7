"""Finding, pairing and reading files: what every source that reads folders shares.

Paths are relative to a folder and written with "/". Suffixes count in any case, and `._NAME`, which archives made on macOS
hold beside every NAME, is never a file of the data.
"""

import os
from pathlib import Path, PurePosixPath

from sgt_jax.data.examples import DataError
from sgt_jax.data.records import BadRecord

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


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Relative paths of the files below a folder, sorted. Symbolic links are followed: data often lie elsewhere."""
    found = []
    for directory, _, names in os.walk(folder, followlinks=True):
        below = Path(directory).relative_to(folder)
        found += [(below / name).as_posix() for name in names if has_suffix(name, suffixes)]
    return sorted(found)


def has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a file is of the data: one of the suffixes (lower-case, with the dot), and no companion of macOS."""
    return name.lower().endswith(suffixes) and not PurePosixPath(name).name.startswith("._")


def stem(name: str, ending: str = "") -> str:
    """A relative path without its last suffix, which is what paired files share: 'a.b/c.d.jpg' -> 'a.b/c.d'.

    `ending` goes too where it is there: 'x_leftImg8bit.png' -> 'x' with ending '_leftImg8bit'.
    """
    return str(PurePosixPath(name).with_suffix("")).removesuffix(ending)


def by_stem(folder: Path, suffixes: tuple[str, ...], ending: str = "") -> dict[str, str]:
    """{stem: relative path} of the files below a folder, in the order of the paths; only those whose stem has `ending`.

    Raises:
      DataError: two files share a stem, so that it is open which one is meant.
    """
    found: dict[str, str] = {}
    for name in files_below(folder, suffixes):
        if not stem(name).endswith(ending):
            continue
        key = stem(name, ending)
        if key in found:
            raise DataError(f"{folder}: {found[key]} and {name} differ only in their suffix; remove one of them")
        found[key] = name
    return found


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
