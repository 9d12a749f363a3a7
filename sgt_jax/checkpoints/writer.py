"""Writes safetensors files one tensor at a time, and never leaves half a file under the final name.

The `safetensors` library's writer wants all tensors in memory at once; here the header is written from names,
dtypes and shapes alone, and each tensor goes to its place when it is at hand.

The renaming is not that of `sgt_jax.data.stored.atomic`: one descriptor stays open from the header to the last tensor, and
every failure (no room, a full disk, tensors missing) is an error of its own that names the file and the remedy.
"""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from sgt_jax.checkpoints.header import format_header
from sgt_jax.errors import CheckpointError

_CHUNK = 1 << 30  # Linux transfers at most 2 GB per call
_PIECE = 1 << 22  # strided arrays are made contiguous in pieces of about this many bytes
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Writer:
    """Writes a safetensors file: the header first, then one tensor after another, in any order.

    The bytes go to a temporary file beside `path`, which takes the name only when everything is on the disk:

        with Writer(path, {"a": (np.float32, (2, 3))}) as writer:
            writer.write("a", array)
    """

    def __init__(
        self,
        path: str | os.PathLike,
        tensors: Mapping[str, tuple[DTypeLike, Sequence[int]]],
        metadata: Mapping[str, str] | None = None,
    ):
        """`tensors`: (dtype, shape) by name."""
        self.path = os.fspath(path)
        header, self.tensors, size = format_header(self.path, tensors, metadata)
        self._missing = set(self.tensors)
        self._temporary = f"{self.path}.partial-{os.getpid()}"
        try:
            free = shutil.disk_usage(os.path.dirname(os.path.abspath(self.path))).free
            if free < size:
                why = f"needs {size / 1e9:.2f} GB, but its disk has {free / 1e9:.2f} GB free."
                raise CheckpointError(self.path, why, "Free some space or write elsewhere.")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._file = os.open(self._temporary, flags, 0o666)
        except OSError as error:
            advice = "Check that the folder exists and is writable."
            raise CheckpointError(self.path, f"cannot be written ({error.strerror}).", advice) from None
        try:
            self._put(header, 0)
        except BaseException:
            self._discard()
            raise

    def _put(self, raw: bytes | np.ndarray, begin: int):
        view = memoryview(raw)
        done = 0
        while done < len(view):
            try:
                done += os.pwrite(self._file, view[done : done + _CHUNK], begin + done)
            except OSError as error:
                why = f"could not be written beyond {(begin + done) / 1e9:.3f} GB ({error.strerror})."
                advice = "Free some space or write elsewhere." if error.errno in _FULL else "Check the disk."
                raise CheckpointError(self.path, why, advice) from None

    def write(self, name: str, array: np.ndarray):
        """Writes one tensor, of the announced dtype and shape. Strided arrays are copied in pieces."""
        tensor = self.tensors[name]
        if array.dtype != tensor.dtype or array.shape != tensor.shape:
            announced = f"{tensor.dtype}{list(tensor.shape)}"
            raise ValueError(f"{name} was announced as {announced}, not {array.dtype}{list(array.shape)}")
        if name not in self._missing:
            raise ValueError(f"{name} was written before")
        words = np.atleast_1d(array.view(f"u{tensor.dtype.itemsize}"))
        row = words[:1].nbytes
        rows = len(words) if words.flags.c_contiguous else max(_PIECE // max(row, 1), 1)
        for i in range(0, len(words), max(rows, 1)):
            piece = np.ascontiguousarray(words[i : i + rows])
            self._put(piece.reshape(-1).view(np.uint8), tensor.begin + i * row)
        self._missing.remove(name)

    def close(self):
        """Makes the file durable and gives it its name."""
        if self._missing:
            count, example = len(self._missing), min(self._missing)
            self._discard()
            raise ValueError(f"{self.path}: {count} announced tensors were not written, such as {example}")
        try:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1
            os.replace(self._temporary, self.path)
            sync_folder(os.path.dirname(os.path.abspath(self.path)))
        except OSError as error:
            self._discard()
            raise CheckpointError(self.path, f"could not be completed ({error.strerror}).", "Check the disk.") from None

    def _discard(self):
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if os.path.exists(self._temporary):
            os.unlink(self._temporary)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.close()
        else:
            self._discard()


def sync_folder(folder: str | os.PathLike):
    """Makes a rename durable: it is an entry of the folder, not of the file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata=None):
    """Writes arrays that are all in memory."""
    with Writer(path, {name: (array.dtype, array.shape) for name, array in arrays.items()}, metadata) as writer:
        for name, array in arrays.items():
            writer.write(name, array)
