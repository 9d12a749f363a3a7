"""Reads safetensors files tensor by tensor or slice by slice: a 29 GB checkpoint need never fit in memory.

The `safetensors` library maps the file, whose pages then count as ours, and trusts more of the header. Here
bytes are read with `preadv` straight into the buffer that needs them. `Weights` is a file, or shards with an
index.
"""

import math
import os
import stat
from collections.abc import Sequence

import numpy as np

from sgt_jax.checkpoints.header import MAX_HEADER, header_length, parse_header, shown, strict_json
from sgt_jax.errors import CheckpointError

_SHORT_RUN = 1024  # runs of wanted bytes shorter than this are read together with the gaps between them ...
_SCRATCH = 1 << 20  # ... through a buffer of this size
_CHUNK = 1 << 30  # Linux transfers at most 2 GB per call


def _open_regular(path: str, what: str) -> tuple[int, int]:
    """(file descriptor, size) of a regular file; refuses everything else, before a pipe could block us."""
    if "://" in path:
        advice = "Mount the bucket or copy the file, and give the local path."
        raise CheckpointError(path, "is not on a local disk.", advice)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise CheckpointError(path, f"is a folder, not {what}.", "Give the path of the file.")
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(path, f"is not a regular file, so not {what}.", "Check the path.")
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC), status.st_size
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", error)
        advice = "Check the path, the permissions and that the download is complete."
        raise CheckpointError(path, f"cannot be opened ({reason}).", advice) from None


class WeightsFile:
    """One safetensors file, open for reading any tensor or slice; holds no tensor itself.

    Attributes:
      tensors: Tensor by name, in file order.
      metadata: the header's free strings.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        self._file, size = _open_regular(self.path, "a safetensors file")
        try:
            start = self._bytes(0, min(size, 40))
            header = self._bytes(8, header_length(self.path, start, size))
            self.tensors, self.metadata = parse_header(self.path, header, size)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _bytes(self, begin: int, count: int) -> bytes:
        buffer = np.empty(count, np.uint8)
        self._fill(buffer, begin)
        return buffer.tobytes()

    def _fill(self, out: np.ndarray, begin: int):
        """Reads `out.nbytes` bytes at `begin` into a contiguous array."""
        target = memoryview(out.reshape(-1).view(np.uint8))
        done = 0
        while done < len(target):
            try:
                got = os.preadv(self._file, [target[done : done + _CHUNK]], begin + done)
            except OSError as error:
                why = f"could not be read ({error.strerror})."
                raise CheckpointError(self.path, why, "Check the disk or the mount.") from None
            if got == 0:
                why = "became shorter while it was being read."
                raise CheckpointError(self.path, why, "Let the copy finish and try again.")
            done += got

    def read(self, name: str, index: Sequence[slice] | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """A tensor, or its part `index` (a slice of step 1 per axis); only that is read.

        `out`, if given, is filled and returned: a C-contiguous array of the tensor's dtype and the part's shape.
        """
        tensor = self.tensors[name]
        index = [slice(None)] * len(tensor.shape) if index is None else index
        ranges = [part.indices(side)[:2] for part, side in zip(index, tensor.shape, strict=True)]
        shape = tuple(max(stop - start, 0) for start, stop in ranges)
        if out is None:
            out = np.empty(shape, tensor.dtype)
        elif out.dtype != tensor.dtype or out.shape != shape or not out.flags.c_contiguous:
            raise ValueError(f"{name}: out must be a contiguous {tensor.dtype} array of shape {shape}")
        # Untyped words: NumPy moves them faster than its extension types such as bfloat16.
        words = out.view(f"u{tensor.dtype.itemsize}")
        if words.size:
            self._slice(words, tensor.begin, tensor.shape, ranges)
        if tensor.dtype == np.bool_ and words.size and words.max() > 1:
            why = f"tensor {shown(name)} is BOOL but holds bytes other than 0 and 1."
            raise CheckpointError(self.path, why)
        return out

    def _slice(self, out: np.ndarray, begin: int, shape: Sequence[int], ranges: Sequence[tuple[int, int]]):
        """Fills the contiguous `out` with the part `ranges` of an array of `shape` that starts at `begin`."""
        if all(part == (0, side) for part, side in zip(ranges[1:], shape[1:])):
            first = ranges[0][0] * math.prod(shape[1:]) * out.itemsize if shape else 0
            return self._fill(out, begin + first)
        (start, stop), row = ranges[0], math.prod(shape[1:]) * out.itemsize
        begin += start * row
        if row > _SCRATCH or _run(out.itemsize, shape, ranges) >= _SHORT_RUN:
            for i in range(stop - start):
                self._slice(out[i], begin + i * row, shape[1:], ranges[1:])
            return None
        # Many short runs: fetching them one by one costs more than fetching the bytes between them.
        rows = max(_SCRATCH // row, 1)
        inner = tuple(slice(*part) for part in ranges[1:])
        for i in range(0, stop - start, rows):
            scratch = np.empty([min(rows, stop - start - i), *shape[1:]], out.dtype)
            self._fill(scratch, begin + i * row)
            out[i : i + len(scratch)] = scratch[:, *inner]
        return None


def _run(itemsize: int, shape: Sequence[int], ranges: Sequence[tuple[int, int]]) -> int:
    """How many wanted bytes stand together in the file."""
    run = itemsize
    for (start, stop), side in zip(reversed(ranges), reversed(shape)):
        run *= stop - start
        if stop - start != side:
            break
    return run


class Weights:
    """All tensors of a checkpoint: one safetensors file, or the shards that an index names.

    Attributes:
      tensors: Tensor by name.
      files: the WeightsFile that holds each name.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens `*.safetensors`, or `*.safetensors.index.json` with all its shards."""
        self.path = os.fspath(path)
        self.files: dict[str, WeightsFile] = {}
        self._open: list[WeightsFile] = []
        try:
            if self.path.endswith(".index.json"):
                self._open_shards()
            else:
                self._add(self.path)
        except BaseException:
            self.close()
            raise
        self.tensors = {name: file.tensors[name] for name, file in self.files.items()}

    def _add(self, path: str) -> WeightsFile:
        file = WeightsFile(path)
        self._open.append(file)
        self.files.update(dict.fromkeys(file.tensors, file))
        return file

    def _open_shards(self):
        descriptor, size = _open_regular(self.path, "an index of shards")
        with os.fdopen(descriptor, "rb") as file:
            if size > MAX_HEADER:
                raise CheckpointError(self.path, f"has {size} bytes, too many for an index.", "Check the path.")
            index = strict_json(self.path, file.read(size), "text")
        places = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
            raise CheckpointError(self.path, "has no weight_map from tensor names to file names.")
        shards = {shard: os.path.join(os.path.dirname(self.path), shard) for shard in sorted(set(places.values()))}
        for shard in shards:
            # An index must not make us open files elsewhere.
            if shard in ("", ".", "..") or "\0" in shard or os.path.basename(shard) != shard:
                raise CheckpointError(self.path, f"names the shard {shown(shard)}, which is not a file name.")
        absent = [shown(shard) for shard, path in shards.items() if not os.path.exists(path)]
        if absent:
            why = f"names {len(shards)} shards, of which are missing: {', '.join(absent[:5])}."
            raise CheckpointError(self.path, why, "Download all shards into this folder.")
        for shard, path in shards.items():
            listed = {name for name, place in places.items() if place == shard}
            wrong = sorted(listed ^ self._add(path).tensors.keys())
            if wrong:
                examples = ", ".join(shown(name) for name in wrong[:3])
                why = f"and its shard {shown(shard)} disagree about {len(wrong)} tensors, such as {examples}."
                raise CheckpointError(self.path, why, "Download index and shards of the same release.")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for file in self._open:
            file.close()

    def read(self, name: str, index: Sequence[slice] | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """See WeightsFile.read."""
        return self.files[name].read(name, index, out)
