"""Writes a tree of (sharded) arrays as published tensors, one at a time: at most two tensors more than the tree itself.

The counterpart of `importing.py`: the same name map, read the other way.
"""

import contextlib
import functools
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from numpy.typing import DTypeLike

from sgt_jax import trees
from sgt_jax.checkpoints.names import NameMap
from sgt_jax.checkpoints.writer import Writer, sync_folder
from sgt_jax.errors import CheckpointError


class LazyLeaf(Protocol):
    """A leaf that is read when it is needed, such as `stored.StoredLeaf`."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, layer: int | None, dtype: DTypeLike) -> np.ndarray:
        """One layer of a stacked leaf, or all of it."""


Leaf = jax.Array | np.ndarray | LazyLeaf
GetLeaf = Callable[[str], Leaf]  # path joined by "/" -> the leaf
_BLOCK = 1 << 24  # bytes gathered from other processes at a time


class Export(NamedTuple):
    """A published folder that is being written.

    Attributes:
      folder: where its files go meanwhile.
      leaf: path -> parameter.
      first: whether this process writes what is not shared out: configs, copies.
    """

    folder: Path
    leaf: GetLeaf
    first: bool


@contextlib.contextmanager
def published_folder(out: str | os.PathLike, params: Mapping[str, Any] | GetLeaf) -> Iterator[Export]:
    """A folder that appears under its name when it is complete, and not at all after an error.

    With several processes all enter.

    Raises:
      CheckpointError: `out` exists already, the disk is full, ...
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(out, "exists already and is not empty.", "Choose another name or remove it.")
    leaf = params if callable(params) else functools.partial(trees.at, params)
    partial, first = out.with_name(f"{out.name}.partial-{os.getpid()}"), jax.process_index() == 0
    try:
        if first:
            out.parent.mkdir(parents=True, exist_ok=True)
            partial.mkdir()
        yield Export(partial, leaf, first)
        if first:
            sync_folder(partial)
            if out.exists():
                out.rmdir()
            partial.rename(out)
            sync_folder(out.parent)
    except OSError as error:
        why = f"cannot be written ({error.strerror}: {error.filename})."
        raise CheckpointError(out, why, "Check the disk and the files to copy.") from None
    finally:
        if first and partial.exists():
            shutil.rmtree(partial)


def write_published(
    path: str | os.PathLike,
    names: NameMap,
    leaf: GetLeaf,
    dtype: DTypeLike | None = None,
    metadata: Mapping[str, str] | None = None,
):
    """Writes one safetensors file with the tensors of a name map; `dtype` None keeps each leaf's.

    With several processes all of them must call it; the first one writes.
    """
    # Leaf by leaf, so that a lazy leaf is opened once.
    ordered = sorted(names.items(), key=lambda item: (item[1].path, item[1].layer or 0))
    announced = {}
    for name, source in ordered:
        found = leaf(source.path)
        layers = () if source.layer is None else found.shape[:1]
        if tuple(found.shape) != layers + source.leaf_shape:
            wanted = list(layers + source.leaf_shape)
            raise ValueError(f"{source.path} has shape {list(found.shape)}, but {name} needs {wanted}")
        announced[name] = (np.dtype(dtype or found.dtype), source.shape)
    if jax.process_index() > 0:
        for name, source in ordered:
            _fetch(leaf(source.path), source.layer, announced[name][0])
        return
    with Writer(path, announced, metadata) as writer:
        for name, source in ordered:
            writer.write(name, source.as_published(_fetch(leaf(source.path), source.layer, announced[name][0])))


def published_arrays(params: trees.Tree, names: NameMap) -> dict[str, np.ndarray]:
    """A tree of parameters (or gradients, or moments) as {published name: array}, in memory; absent parts are left out."""
    found = trees.flat(params)
    return {
        name: np.ascontiguousarray(
            source.as_published(_fetch(found[source.path], source.layer, found[source.path].dtype))
        )
        for name, source in names.items()
        if source.path in found
    }


def _fetch(leaf: Leaf, layer: int | None, dtype: np.dtype) -> np.ndarray:
    """One layer of a leaf, or all of it, in memory of this host."""
    if hasattr(leaf, "read"):
        return leaf.read(layer, dtype)
    if not isinstance(leaf, jax.Array):
        array = np.asarray(leaf if layer is None else leaf[layer])
        return array if array.dtype == dtype else array.astype(dtype)
    if not leaf.is_fully_addressable:
        return _gather(leaf, layer, dtype)
    if next(iter(leaf.sharding.device_set)).platform != "cpu":
        # Cut and cast on the device. The result is a new array object, so that the host copy that JAX attaches to
        # an array goes away with it and not with the parameters.
        leaf, layer = _cut(leaf, layer or 0, layer is not None, dtype), None
    # On a CPU these are views of the device's own memory. Replicas have equal indices: one of them is enough.
    shards = {str(shard.index): shard for shard in leaf.addressable_shards}.values()
    parts = [(shard.index, np.asarray(shard.data)) for shard in shards]
    if len(parts) == 1:
        return _fetch(parts[0][1], layer, dtype)
    out = np.empty(leaf.shape if layer is None else leaf.shape[1:], dtype)
    for index, part in parts:
        if layer is None:
            out[index] = part
        elif layer in range(*index[0].indices(leaf.shape[0])):
            out[index[1:]] = part[layer - (index[0].start or 0)]
    return out


def _gather(leaf: jax.Array, layer: int | None, dtype: np.dtype) -> np.ndarray:
    """Like `_fetch`, for arrays spread over processes, all of which call this; only the first gets the values."""
    local = leaf.sharding.shard_shape(leaf.shape)
    stacked = layer is not None
    shape, local = (leaf.shape[1:], local[1:]) if stacked else (leaf.shape, local)
    out = np.empty(shape if jax.process_index() == 0 else (), dtype)
    # In blocks along an axis that is whole in every process: a collective holds several copies of what it moves.
    whole = [axis for axis, side in enumerate(shape) if side == local[axis] > 0]
    axis = max(whole, key=shape.__getitem__, default=None)
    count = 1 if axis is None else shape[axis]
    step = min(max(_BLOCK * count // max(math.prod(shape) * out.itemsize, 1), 1), count)
    for i in range(0, count, step):
        start = min(i, count - step)  # the last block overlaps, so that one shape is compiled
        found = multihost_utils.process_allgather(_cut(leaf, layer or 0, stacked, dtype, start, axis, step), tiled=True)
        if jax.process_index() == 0:
            place = (slice(None),) * (axis or 0) + (slice(start, start + step),)
            out[... if axis is None else place] = found
    return out


@functools.partial(jax.jit, static_argnums=(2, 3, 5, 6))
def _cut(
    leaf: jax.Array, layer: int, stacked: bool, dtype: DTypeLike, start: int = 0, axis: int | None = None, size: int = 0
) -> jax.Array:
    """A layer of a stack (or all of the leaf), or a part of it along one axis."""
    part = jax.lax.dynamic_index_in_dim(leaf, layer, keepdims=False) if stacked else leaf
    if axis is not None:
        part = jax.lax.dynamic_slice_in_dim(part, start, size, axis)
    return part.astype(jnp.dtype(dtype))
