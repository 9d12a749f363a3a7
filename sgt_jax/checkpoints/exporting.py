"""Writes a tree of (sharded) arrays as published tensors, one at a time: at most two tensors more than the tree itself.

The counterpart of `importing.py`: the same name map, read the other way.
"""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from sgt_jax.checkpoints.importing import NameMap
from sgt_jax.checkpoints.writer import Writer

# path joined by "/" -> the leaf: a jax.Array, a NumPy array, or anything with shape, dtype and read(layer, dtype)
GetLeaf = Callable[[str], Any]


def write_published(
    path: str | os.PathLike,
    names: NameMap,
    leaf: GetLeaf,
    dtype: Any = None,
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


def _fetch(leaf: Any, layer: int | None, dtype: np.dtype) -> np.ndarray:
    """One layer of a leaf, or all of it, in memory of this host."""
    if hasattr(leaf, "read"):
        return leaf.read(layer, dtype)
    if not isinstance(leaf, jax.Array):
        array = np.asarray(leaf if layer is None else leaf[layer])
        return array if array.dtype == dtype else array.astype(dtype)
    # Cut and cast on the device. The result is a new array object, so that the host copy that JAX attaches to an
    # array goes away with it and not with the parameters.
    part = _cut(leaf, -1 if layer is None else layer, layer is not None, dtype)
    if not part.is_fully_addressable:
        return multihost_utils.process_allgather(part, tiled=True)
    if len(part.sharding.device_set) == 1 or part.is_fully_replicated:
        return np.asarray(part.addressable_shards[0].data)
    out = np.empty(part.shape, part.dtype)
    # Replicas have equal indices: one of them is enough.
    for shard in {str(shard.index): shard for shard in part.addressable_shards}.values():
        out[shard.index] = np.asarray(shard.data)
    return out


@functools.partial(jax.jit, static_argnums=(2, 3))
def _cut(leaf: jax.Array, layer: Any, stacked: bool, dtype: Any) -> jax.Array:
    part = jax.lax.dynamic_index_in_dim(leaf, layer, keepdims=False) if stacked else leaf
    return part.astype(jnp.dtype(dtype))
