"""Reads single arrays of a run's checkpoint from the disk, so that exporting never holds the whole state.

Orbax writes every array of the state as a chunked Zarr array in one OCDBT store; tensorstore reads parts of it.
"""

import itertools
import json
import math

import numpy as np
import tensorstore
from etils import epath
from numpy.typing import DTypeLike

from sgt_jax.errors import CheckpointError

# Pieces in flight cost memory, and the disk is the slow part anyway.
_ONE_BY_ONE = tensorstore.Context({"data_copy_concurrency": {"limit": 1}, "file_io_concurrency": {"limit": 1}})
_BLOCK = 1 << 24  # bytes read at a time, more only where a chunk is larger


class StoredWeights:
    """The parameters in a run's checkpoint, as leaves that are read when they are needed.

    With `weights` "ema" a leaf is the moving average where the run keeps one (frozen parameters have none).

    Attributes:
      step: of the checkpoint.
    """

    def __init__(self, workdir: epath.PathLike, weights: str = "ema", step: int | None = None):
        folder = epath.Path(workdir) / "checkpoints"
        # Unfinished checkpoints have longer names.
        steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []
        if not steps or (step is not None and step not in steps):
            have = f"only {', '.join(map(str, steps))}" if steps else "no complete checkpoint"
            raise CheckpointError(folder, f"holds {have}.", "Give the --workdir of a run, and a step that it kept.")
        self.step = steps[-1] if step is None else step
        self._state = folder / str(self.step) / "state"
        try:
            metadata = json.loads((self._state / "_METADATA").read_text())
            self._driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
            keys = [entry["key_metadata"] for entry in metadata["tree_metadata"].values()]
            self._paths = {"/".join(str(key["key"]) for key in path) for path in keys}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"is not a checkpoint of a run ({type(error).__name__}: {error})."
            raise CheckpointError(self._state, why, "Use another step or work directory.") from None
        if weights == "ema" and not any(path.startswith("ema/") for path in self._paths):
            raise CheckpointError(self._state, "keeps no EMA.", "Ask for the raw weights (params).")
        self._trees = {"ema": ("ema", "params"), "params": ("params",)}[weights]
        self._open: dict[str, StoredLeaf] = {}

    def __call__(self, path: str) -> "StoredLeaf":
        """The leaf at a path such as "decoder/embed/embedding"; nothing is read yet.

        Raises:
          CheckpointError: the run has no such parameter.
        """
        full = next((f"{tree}/{path}" for tree in self._trees if f"{tree}/{path}" in self._paths), None)
        if full is None:
            raise CheckpointError(self._state, f"holds no parameter {path}.", "Is this a run of another model?")
        for other, leaf in self._open.items():
            if other != full:
                leaf.forget()  # only one leaf at a time keeps layers in memory
        if full not in self._open:  # each is opened once: a file is announced first and written then
            self._open[full] = StoredLeaf(self._state, full, self._driver)
        return self._open[full]


class StoredLeaf:
    """One array on the disk.

    Attributes:
      shape, dtype: of the array.
    """

    def __init__(self, state: epath.Path, path: str, driver: str):
        self._where = state / path
        kvstore = {"driver": "ocdbt", "base": f"file://{state.absolute()}", "path": path.replace("/", ".") + "/"}
        try:
            spec = {"driver": driver, "kvstore": kvstore}
            self._store = tensorstore.open(spec, open=True, read=True, context=_ONE_BY_ONE).result()
        except ValueError as error:
            raise self._damaged(error) from None
        self.shape = tuple(self._store.shape)
        self.dtype = np.dtype(self._store.dtype.numpy_dtype)
        self._group: tuple[tuple[int, DTypeLike], np.ndarray] | None = None

    def forget(self) -> None:
        """Drops the layers that were kept because they share a chunk with the one last read."""
        self._group = None

    def read(self, layer: int | None, dtype: DTypeLike) -> np.ndarray:
        """One layer of a stacked leaf, or all of it, cast block by block."""
        if layer is None:
            return self._blocks((), dtype)
        together = (self._store.chunk_layout.read_chunk.shape or (1,))[0]
        if together == 1:
            return self._blocks((layer,), dtype)
        # Layers that share a chunk are decoded together, so they are kept until the next group is asked for.
        start = layer // together * together
        if self._group is None or self._group[0] != (start, dtype):
            self._group = None
            self._group = ((start, dtype), self._blocks((slice(start, start + together),), dtype))
        return self._group[1][layer - start]

    def _blocks(self, index: tuple[int | slice, ...], dtype: DTypeLike) -> np.ndarray:
        store = self._store
        if index and isinstance(index[0], slice):
            store = store[index[0].start : min(index[0].stop, self.shape[0])].translate_to[0]
        elif index:
            store = store[index[0]]
        out = np.empty(store.shape, dtype)
        # In blocks of whole chunks: nothing is decoded twice, and little at a time.
        block = [min(a, b) for a, b in zip(store.chunk_layout.read_chunk.shape or (), out.shape)]
        for axis in reversed(range(out.ndim)):
            fit = _BLOCK // max(math.prod(block) * self.dtype.itemsize, 1)
            block[axis] = min(block[axis] * max(fit, 1), out.shape[axis])
        try:
            for corner in itertools.product(*(range(0, side, step) for side, step in zip(out.shape, block))):
                part = tuple(slice(k, min(k + b, n)) for k, b, n in zip(corner, block, out.shape))
                out[part] = store[part].read().result()
        except ValueError as error:
            raise self._damaged(error) from None
        return out

    def _damaged(self, error: Exception) -> CheckpointError:
        why = f"cannot be read ({' '.join(str(error).split())[:300]})."
        return CheckpointError(self._where, why, "Use another step of the run.")
