"""Files that are there whole or not at all, whenever their writer is killed.

A file is written under a temporary name in its own folder, flushed to the disk and renamed. On an object store (gs:// and
the like) it is written under its own name: there an object appears when its upload ends.
"""

import contextlib
import os
from collections.abc import Iterator

from etils import epath

from sgt_jax.errors import DataError


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a text file as UTF-8, line ends as they are; the old file or the new one is there at any time."""
    write_bytes(path, text.encode())


def write_bytes(path: epath.PathLike, content: bytes) -> None:
    """Writes a file; the old file or the new one is there at any time.

    Raises:
      OSError: it cannot be written; nothing is left behind.
    """
    path = epath.Path(path)
    if is_remote(path):
        path.write_bytes(content)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[epath.Path]:
    """The temporary path of a local file, which takes the place of `path` when the body ends without an error.

    For writers that want a path of their own. What they leave behind after an error is removed.
    """
    temporary = temporary_path(path)
    try:
        yield temporary
        settle(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(target: epath.PathLike, advice: str) -> Iterator[None]:
    """Says in our words that a file could not be written; ArrayRecord raises RuntimeError for what the disk refuses.

    Raises:
      DataError: what is done inside raised OSError or RuntimeError.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise DataError(f"{os.fspath(target)}: cannot be written ({error}); {advice}") from error


def temporary_path(path: epath.PathLike) -> epath.Path:
    """Where this process writes a file before it is renamed to `path`: hidden, in the same folder, on the same disk."""
    path = epath.Path(path)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def settle(temporary: epath.PathLike, path: epath.PathLike) -> None:
    """Flushes a written file to the disk and gives it its name."""
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is of an object store, where files cannot be appended to, renamed at once or locked."""
    return "://" in os.fspath(path)
