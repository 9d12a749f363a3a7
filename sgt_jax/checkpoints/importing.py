"""Streams published tensors into a tree of (sharded) arrays: each process reads only the bytes of its own shards.

A model family says with a name map where every published tensor lives (`names.py`). Leaves are filled in place, tensor
by tensor, in buffers that JAX on CPU adopts without copying, so the peak is the size of the parameters plus some tens of
megabytes: two threads each hold a block, so that one reads while the other turns and casts.
"""

import functools
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from sgt_jax import trees
from sgt_jax.checkpoints.header import Tensor, shown
from sgt_jax.checkpoints.names import Leaf, NameMap, Source, leaves
from sgt_jax.checkpoints.safetensors import Weights
from sgt_jax.errors import CheckpointError

# (path of the leaf joined by "/", its shape) -> where it lives; None is the default device.
Sharding = Callable[[str, tuple[int, ...]], jax.sharding.Sharding]
# (path of a leaf, the leaf) -> {path: array}: what the tree holds of it, such as smaller numbers.
Kept = Callable[[str, jax.Array], Mapping[str, jax.Array]]
_SHOWN = 4  # names of a kind in one message
_BLOCK = 1 << 20  # bytes of a published tensor that a thread reads, turns and casts at a time
_THREADS = 2


class Renamed:
    """A checkpoint file whose tensors have other names; those that `rename` gives None are not there."""

    def __init__(self, weights: Weights, rename: Callable[[str], str | None]):
        self.path = weights.path
        self._weights, self._old = weights, {}
        for old in weights.tensors:
            new = rename(old)
            if new in self._old:
                weights.close()
                raise CheckpointError(self.path, f"holds {shown(new)} twice, as {shown(self._old[new])} and {shown(old)}.")
            if new is not None:
                self._old[new] = old
        self.tensors = {new: weights.tensors[old]._replace(name=new) for new, old in self._old.items()}

    def close(self):
        self._weights.close()

    def read(self, name: str, index: Sequence[slice] | None = None, out: np.ndarray | None = None):
        """See WeightsFile.read."""
        return self._weights.read(self._old[name], index, out)


class Files:
    """The tensors of several checkpoint files as one; names must not repeat."""

    def __init__(self, opened: Sequence[Weights | Renamed], strip: str = ""):
        """`strip`: a prefix that is taken off the names that have it."""
        self.opened = tuple(opened)
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="import")  # they start with the first block
        self._owner: dict[str, Weights | Renamed] = {}
        self._stored: dict[str, str] = {}  # our name -> the file's
        for weights in opened:
            for stored in weights.tensors:
                name = stored.removeprefix(strip)
                self._stored[name] = stored
                if name in self._owner:
                    why = f"and {self._owner[name].path} both hold {shown(name)}."
                    raise CheckpointError(weights.path, why, "Keep one of the two.")
                self._owner[name] = weights
        self.tensors: dict[str, Tensor] = {
            name: own.tensors[self._stored[name]]._replace(name=name) for name, own in self._owner.items()
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.threads.shutdown()
        for weights in self.opened:
            weights.close()

    def drop(self, names: Iterable[str]):
        """Forgets some tensors, whether they are there or not."""
        for name in names:
            self.tensors.pop(name, None)

    def read(self, name: str, index: Sequence[slice] | None = None, out: np.ndarray | None = None):
        """See WeightsFile.read."""
        return self._owner[name].read(self._stored[name], index, out)


def check_names(
    where: str | os.PathLike, tensors: Mapping[str, Tensor], names: NameMap, optional: frozenset[str] = frozenset()
):
    """Raises one CheckpointError that counts what is missing, unexpected, misshaped or no floating point and lists a few.

    `optional` may lack.
    """
    missing = [name for name in names if name not in tensors and name not in optional]
    unexpected = [name for name in tensors if name not in names]
    misshaped = [
        f"{name}: {list(tensors[name].shape)} in the file, {list(source.shape)} by the configs"
        for name, source in names.items()
        if name in tensors and tensors[name].shape != source.shape
    ]
    # Integers are another format, such as quantised weights, whose scales we do not know.
    integers = [
        f"{name}: {tensors[name].dtype}"
        for name in names
        if name in tensors and not jnp.issubdtype(tensors[name].dtype, jnp.floating)
    ]
    if not (missing or unexpected or misshaped or integers):
        return
    lines = ["its tensors are not those of the model that its configs describe."]
    wrong = {"missing": missing, "unexpected": unexpected, "misshaped": misshaped, "not floating point": integers}
    for title, found in wrong.items():
        if found:
            lines += [f"{len(found)} {title}:", *(f"  {ascii(line)[1:-1]}" for line in sorted(found)[:_SHOWN])]
            lines += [f"  ... and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    advice = "Check that weights and configs come from the same release."
    raise CheckpointError(where, "\n".join(lines) + "\n", advice)


def load_tree(
    files: Files, names: NameMap, sharding: Sharding | None = None, dtype: DTypeLike | None = None,
    kept: Kept | None = None,
) -> trees.Tree:  # fmt: skip
    """All leaves that a name map fills, as a nested dict; the arguments are those of `load_leaf`.

    Raises:
      CheckpointError: a file is damaged. Names and shapes were checked before, by `check_names`.
    """
    return trees.nested(load_leaves(files, leaves(names), names, sharding, dtype, kept))


def load_leaves(
    files: Files, wanted: Iterable[Leaf], names: NameMap, sharding: Sharding | None, dtype: DTypeLike | None,
    kept: Kept | None,
) -> dict[str, jax.Array]:  # fmt: skip
    """{path: array} of some leaves, one after the other, so that of what `kept` makes smaller one is whole at a time."""
    found: dict[str, jax.Array] = {}
    for leaf in wanted:
        array = load_leaf(files, leaf, names, sharding, dtype)
        found |= kept(leaf.path, array) if kept else {leaf.path: array}
    return found


def load_leaf(
    files: Files, leaf: Leaf, names: NameMap, sharding: Sharding | None, dtype: DTypeLike | None = None
) -> jax.Array:
    """One leaf of the tree as a jax.Array; `dtype` None keeps the files' dtype (the widest one of a stack)."""
    if dtype is None:
        dtype = functools.reduce(jnp.promote_types, {files.tensors[name].dtype for name in leaf.names})
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    place = sharding(leaf.path, leaf.shape) if sharding else device
    buffers: dict[tuple[tuple[int, int], ...], np.ndarray] = {}  # devices that hold the same part share one buffer

    def part(index: tuple[slice, ...]) -> np.ndarray:
        ranges = tuple(s.indices(side)[:2] for s, side in zip(index, leaf.shape, strict=True))
        if ranges not in buffers:
            buffers[ranges] = _read_part(files, leaf, names, [slice(*r) for r in ranges], dtype)
        return buffers[ranges]

    array = jax.make_array_from_callback(leaf.shape, place, part, dtype=dtype)
    # Wait: otherwise the host buffers of leaves that are still on their way to a device would pile up.
    array.block_until_ready()
    return array


def _read_part(files: Files, leaf: Leaf, names: NameMap, index: Sequence[slice], dtype: np.dtype) -> np.ndarray:
    """A part of a leaf in a new buffer."""
    out = aligned_empty([part.stop - part.start for part in index], dtype)
    if leaf.stacked:
        for row, name in zip(out, leaf.names[index[0]], strict=True):
            _fill(files, name, names[name], index[1:], row)
    else:
        _fill(files, leaf.names[0], names[leaf.names[0]], index, out)
    return out


def _fill(files: Files, name: str, source: Source, index: Sequence[slice], out: np.ndarray):
    """Reads the part `index` of a leaf (or layer) into `out`, turning and casting on the way."""
    wanted = source.published_index(index)
    kind = files.tensors[name].dtype
    if kind == out.dtype and not source.turns:
        files.read(name, wanted, out.reshape([part.stop - part.start for part in wanted]))
        return
    target = source.as_published(out)
    if not target.size:
        return
    if not target.ndim:
        target[...] = files.read(name)
        return

    def block(start: int) -> None:
        stop = min(start + rows, len(target))
        part = target[start:stop]
        piece = files.read(name, [slice(first + start, first + stop), *wanted[1:]], _scratch(part.shape, kind))
        _place(piece, part, source.turns)

    first = wanted[0].start
    rows = max(_BLOCK // (math.prod(target.shape[1:]) * kind.itemsize), 1)
    starts = range(0, len(target), rows)
    if len(starts) == 1:
        block(0)
    else:
        list(files.threads.map(block, starts))  # the list raises what a thread raised


_own = threading.local()  # a buffer a thread


def _scratch(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """This thread's buffer for one block: a new one would cost more in page faults than the block in copying."""
    count = math.prod(shape) * dtype.itemsize
    if not hasattr(_own, "buffer") or _own.buffer.nbytes < count:
        _own.buffer = aligned_empty([max(count, _BLOCK)], np.uint8)  # more than a block: one row of a wide tensor
    return _own.buffer[:count].view(dtype).reshape(shape)


def _place(piece: np.ndarray, target: np.ndarray, turns: bool) -> None:
    """Copies a piece into a view of the same shape whose axes may lie in another order in memory, casting on the way."""
    if turns:
        order = np.argsort([-stride for stride in target.strides], kind="stable")
        piece, target = _turned(piece.transpose(order)), target.transpose(order)
    if piece.dtype == target.dtype:  # move untyped words: faster than NumPy's extension types
        piece, target = (x.view(f"u{x.dtype.itemsize}") for x in (piece, target))
    target[...] = piece


def _turned(piece: np.ndarray) -> np.ndarray:
    """The same values, contiguous. JAX lays an array with any strides out in a third of NumPy's time."""
    device = _cpu()
    if device is None or piece.dtype.itemsize > 4:  # JAX would make 32 bits of 64
        return np.ascontiguousarray(piece)
    words = piece.view(f"u{piece.dtype.itemsize}")
    return np.asarray(jax.device_put(words, device)).view(piece.dtype)


@functools.cache
def _cpu() -> jax.Device | None:
    """This process's first CPU device; None if JAX runs without CPU (JAX_PLATFORMS=tpu)."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def aligned_empty(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Like np.empty, at an address that JAX on CPU adopts without copying."""
    count = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(count + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count].view(dtype).reshape(shape)
