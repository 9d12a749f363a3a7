"""Sharding as data: a mesh, and one table from parameter path to logical axes to mesh axes."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ("data", "fsdp", "tensor", "context")

# Logical axis -> mesh axes. Rows of a batch are spread over data and fsdp alike.
LOGICAL: Mapping[str, tuple[str, ...]] = {
    "rows": ("data", "fsdp"),
    "embed": ("fsdp",),
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
}

# Parameter path (joined by "/") -> logical axes of its last dimensions; the first match wins, no match replicates.
# Kernels are [in, out]. Leading dimensions that a rule does not name (stacked layers) are not sharded.
PARAMETERS: Sequence[tuple[str, tuple[str | None, ...]]] = (
    (r"(q|k|v)_proj/kernel$", ("embed", "heads")),
    (r"(o|out)_proj/kernel$", ("heads", "embed")),
    (r"(gate|up)_proj/kernel$|mlp/fc1/kernel$", ("embed", "mlp")),
    (r"down_proj/kernel$|mlp/fc2/kernel$", ("mlp", "embed")),
    (r"embed_tokens/embedding$|embed/embedding$", ("vocab", "embed")),
    (r"lm_head/kernel$", ("embed", "vocab")),
    (r"(vae2llm|connector/fc1|time_embedder/[^/]+)/kernel$", (None, "embed")),
    (r"(llm2vae|connector/fc2)/kernel$", ("embed", None)),
)


def make_mesh(shape: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the axes data, fsdp, tensor, context.

    Args:
      shape: size per axis; absent axes are 1, and at most one may be -1: whatever is left.
      devices: all devices by default.

    Raises:
      ValueError: unknown axis, or the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    unknown = set(shape) - set(AXES)
    if unknown:
        raise ValueError(f"unknown mesh axes {sorted(unknown)}; there are {AXES}")
    sizes = [int(shape.get(axis, 1)) for axis in AXES]
    if sizes.count(-1) == 1:
        rest = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = len(devices) // rest
    if math.prod(sizes) != len(devices):
        raise ValueError(
            f"config.mesh {dict(zip(AXES, sizes))} needs {math.prod(sizes)} devices, here are {len(devices)}"
        )
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def check_rows(rows: int, mesh: Mesh) -> None:
    """Raises ValueError if the rows of the batch cannot be spread evenly over the mesh."""
    shards = math.prod(mesh.shape[axis] for axis in LOGICAL["rows"])
    if rows % shards:
        raise ValueError(
            f"config.data.rows={rows} cannot be shared by {shards} devices (mesh axes data x fsdp); "
            f"use a multiple of {shards}"
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of every array of a batch and of the draws: rows over data and fsdp, the rest whole."""
    return NamedSharding(mesh, P(LOGICAL["rows"]))


def spec_for(path: str, shape: Sequence[int], mesh: Mesh) -> P:
    """Partition of one array by the table; axes of size 1 vanish.

    Raises:
      ValueError: a mesh axis does not divide the dimension that it should split.
    """
    logical = next((axes for pattern, axes in PARAMETERS if re.search(pattern, path)), None)
    if logical is None or len(shape) < len(logical):
        return P()
    spec: list[Any] = [None] * (len(shape) - len(logical))
    for size, name in zip(shape[len(shape) - len(logical) :], logical):
        axes = tuple(a for a in LOGICAL.get(name, ()) if mesh.shape[a] > 1) if name else ()
        parts = math.prod(mesh.shape[a] for a in axes)
        if size % parts:
            raise ValueError(f"mesh axes {axes} ({parts} parts) do not divide {size} in {path} {tuple(shape)}")
        spec.append(axes if axes else None)
    return P(*spec)


def tree_shardings(tree: Any, mesh: Mesh) -> Any:
    """A NamedSharding per leaf of a tree of arrays or shapes (parameters, EMA, optimizer state alike)."""

    def one(path: tuple, leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, spec_for(path_name(path), leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(one, tree)


def path_name(path: tuple) -> str:
    """A tree path as "decoder/layers_0/und/q_proj/kernel"."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def to_devices(batch: Any, mesh: Mesh) -> Any:
    """This process's rows of a host batch -> global arrays, sharded by rows."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)
