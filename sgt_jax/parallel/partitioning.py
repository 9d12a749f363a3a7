"""Sharding as data: a mesh, one table from logical axes to mesh axes, one from parameter paths to logical axes.

Five mesh axes: `data` (copies of the model), `fsdp` (parameters, gradients and optimizer state cut up, gathered where
they are used), `fsdp_transpose` (the same along the other dimension of each kernel: for more devices than divide a width),
`tensor` (heads, MLP widths and the vocabulary cut up), `context` (the slots of a row cut up: queries stay where they are,
keys and values are gathered). Rows of a batch are spread over data, fsdp and fsdp_transpose.

Models call `constrain` and `per_shard` with logical names; both look at the mesh that `jax.set_mesh` has made current and
do nothing without one, so a model knows no device.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sgt_jax.batch import PackedBatch
from sgt_jax.errors import ConfigError
from sgt_jax.trees import path_name

AXES = ("data", "fsdp", "fsdp_transpose", "tensor", "context")

# Logical axis -> mesh axes. The first group names dimensions of batches and activations, the second of parameters.
LOGICAL: Mapping[str, tuple[str, ...]] = {
    "rows": ("data", "fsdp", "fsdp_transpose"),
    "copies": ("data",),
    "slots": ("context",),
    "embed": ("fsdp",),
    # Kept in parts and gathered by `whole` where it is used; an array that the mesh does not divide stays whole.
    "stored": ("fsdp",),
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
    # Of kernels: what `tensor` cuts up for good, and `fsdp_transpose`, where it divides it, until it is used.
    "kept parts": ("tensor", "fsdp_transpose"),
    "kept whole": ("fsdp_transpose",),
    # Whole matrices of a stack, which the optimizer works on one by one: shared out over all devices.
    "matrices": AXES,
}

# Parameter path (joined by "/") -> logical axes of its last dimensions; the first match wins, no match replicates.
# Kernels are [in, out]. Leading dimensions that a rule does not name (stacked layers) are not sharded.
PARAMETERS: Sequence[tuple[str, tuple[str | None, ...]]] = (
    (r"(q|k|v)_proj/kernel$", ("embed", "kept parts")),
    (r"(o|out)_proj/kernel$", ("kept parts", "embed")),
    (r"(gate|up)_proj/kernel$|mlp/fc1/kernel$", ("embed", "kept parts")),
    (r"down_proj/kernel$|mlp/fc2/kernel$", ("kept parts", "embed")),
    (r"embed_tokens/embedding$|embed/embedding$", ("kept parts", "embed")),
    (r"lm_head/kernel$", ("embed", "kept parts")),
    (r"(norm1/linear|norm_out/linear_[12]|timestep_embedder/linear_2)/kernel$", ("embed", "kept whole")),
    (r"(connector/fc[12]|time_embedder/mlp_2)/kernel$", ("embed", "kept whole")),
    (r"(^|/)vae/.*kernel$|_pos_embed/table$|position_embedding/embedding$", ("stored",)),
)


# -- The mesh ----------------------------------------------------------------------------------------------------------


def make_mesh(shape: Mapping[str, int], devices: Sequence[jax.Device] | int | None = None) -> Mesh | AbstractMesh:
    """A mesh with the axes in AXES.

    Args:
      shape: size per axis; absent axes are 1, and at most one may be -1: whatever is left.
      devices: all devices by default; a number gives a mesh of so many devices that need not exist, for planning.

    Raises:
      ConfigError: unknown axis, or the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    count = devices if isinstance(devices, int) else len(devices)
    unknown = set(shape) - set(AXES)
    if unknown:
        raise ConfigError(f"unknown mesh axes {sorted(unknown)}; there are {AXES}")
    sizes = [int(shape.get(axis, 1)) for axis in AXES]
    if sizes.count(-1) == 1:
        rest = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = count // rest
    if math.prod(sizes) != count:
        raise ConfigError(f"config.mesh {dict(zip(AXES, sizes))} needs {math.prod(sizes)} devices, here are {count}")
    auto = (AxisType.Auto,) * len(AXES)
    if isinstance(devices, int):
        return AbstractMesh(tuple(sizes), AXES, axis_types=auto)
    # An axis may be smaller than a slice's own (fsdp 32, context 2 on 8x8 chips); jax.make_mesh would refuse that.
    placed = mesh_utils.create_device_mesh(tuple(sizes), devices, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=auto)


def shards(name: str, mesh: Mesh | AbstractMesh | None = None) -> int:
    """Into how many parts the current mesh (or `mesh`) cuts a logical axis; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh() if mesh is None else mesh
    return math.prod(mesh.shape.get(axis, 1) for axis in LOGICAL[name])


def check_rows(rows: int, mesh: Mesh | AbstractMesh, accumulate: int = 1) -> None:
    """Raises ValueError if the rows of the batch cannot be spread evenly over micro-batches and the mesh."""
    parts = shards("rows", mesh)
    if rows % (parts * accumulate):
        what = f"{parts} devices (mesh axes {' x '.join(LOGICAL['rows'])})"
        if accumulate > 1:
            what = f"{accumulate} micro-batches (config.accumulate) on {what}"
        raise ConfigError(f"config.data.rows={rows} cannot be shared by {what}; use a multiple of {parts * accumulate}")


def check_divides(mesh: Mesh | AbstractMesh, name: str, sizes: Mapping[str, int]) -> None:
    """Raises ValueError if the mesh cuts a logical axis into parts that one of `sizes` {what it counts: n} cannot give."""
    parts = shards(name, mesh)
    for what, size in sizes.items():
        if size % parts:
            axes = " x ".join(LOGICAL[name])
            raise ConfigError(f"config.mesh: {axes}={parts} does not divide {what} ({size}); change one of the two")


# -- Parameters and state ----------------------------------------------------------------------------------------------


def _logical(path: str) -> tuple[str | None, ...] | None:
    """Logical axes of an array by the table. Adapters lie as the kernel that they stand beside; their rank stays whole."""
    if path.endswith("/kernel_scale"):  # of integers, one for each output of the kernel
        axes = _logical(path.removesuffix("_scale"))
        return axes and axes[-1:]
    own, _, half = path.rpartition("lora_")
    beside = f"{own}kernel" if half in ("a", "b") else path
    axes = next((axes for pattern, axes in PARAMETERS if re.search(pattern, beside)), None)
    if beside == path or axes is None or len(axes) != 2:
        return None if beside != path else axes
    return (axes[0], None) if half == "a" else (None, axes[1])


def spec_for(path: str, shape: Sequence[int], mesh: Mesh) -> P:
    """Partition of one array by the table; axes of size 1 vanish.

    Raises:
      ConfigError: a mesh axis does not divide the dimension that it should split, or is to split two.
    """
    logical = _logical(path)
    if logical is None or len(shape) < len(logical):
        return P()
    spec: list[tuple[str, ...] | None] = [None] * (len(shape) - len(logical))
    for size, name in zip(shape[len(shape) - len(logical) :], logical):
        axes = tuple(a for a in LOGICAL[name] if mesh.shape[a] > 1) if name else ()
        parts = math.prod(mesh.shape[a] for a in axes)
        if size % parts and axes[-1] == "fsdp_transpose":
            axes = axes[:-1]
            parts //= mesh.shape["fsdp_transpose"]
        if name == "stored" and size % parts:
            axes = ()
        elif size % parts:
            hint = "; cut the other dimension, too, with mesh.fsdp_transpose" if axes == ("fsdp",) else ""
            raise ConfigError(f"mesh axes {axes} ({parts} parts) do not divide {size} in {path} {tuple(shape)}{hint}")
        if taken := set(axes) & {a for entry in spec for a in entry or ()}:
            raise ConfigError(f"the table splits two dimensions of {path} {logical} over mesh axes {sorted(taken)}")
        spec.append(axes if axes else None)
    return P(*spec)


def tree_shardings(tree: Any, mesh: Mesh) -> Any:
    """A NamedSharding per leaf of a tree of arrays or shapes (parameters, EMA, optimizer state alike)."""

    def one(path: tuple, leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, spec_for(path_name(path), leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(one, tree)


# -- Activations -------------------------------------------------------------------------------------------------------


def _current() -> AbstractMesh | None:
    """The mesh set by `jax.set_mesh`, if it has several devices and we are not on one of them already."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.size == 1 or mesh.manual_axes else mesh


def _spec(shape: Sequence[int], logical: Sequence[str | None], mesh: AbstractMesh) -> P:
    """Partition of an activation; what a dimension cannot be cut into stays whole (a single row that is evaluated)."""
    return P(*(
        LOGICAL[name] if name and shards(name, mesh) > 1 and size % shards(name, mesh) == 0 else None
        for size, name in zip(shape, logical)
    ))  # fmt: skip


def constrain(x: jax.Array, *logical: str | None) -> jax.Array:
    """Says how an activation lies on the current mesh: a logical axis, or None for whole, per leading dimension."""
    if (mesh := _current()) is None:
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, _spec(x.shape, logical, mesh)))


def whole(tree: Any) -> Any:
    """Parameters that the table cuts up as "stored", put together on every device for use."""
    return jax.tree.map(lambda x: constrain(x, *(None,) * x.ndim), tree)


def per_shard(function: Callable[..., Any], arguments: Sequence[Any], logical: Sequence[tuple[str | None, ...]]) -> Any:
    """function(*arguments) on every device's own part: for kernels, which XLA cannot cut up, and for loops over slots.

    Args:
      function: keeps rows, slots and heads apart; its result lies as its first argument does.
      logical: the logical axes of every argument (a tree has one for all its leaves).
    """
    if (mesh := _current()) is None:
        return function(*arguments)
    specs = tuple(_spec(jax.tree.leaves(x)[0].shape, axes, mesh) for x, axes in zip(arguments, logical))
    # Without check_vma a kernel needs no annotation; gradients of what is whole are summed over the mesh all the same.
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False)(*arguments)


# -- Batches -----------------------------------------------------------------------------------------------------------


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of every array of a batch and of the draws: rows over their mesh axes, the rest whole."""
    return NamedSharding(mesh, P(LOGICAL["rows"]))


def own_rows(rows: int, mesh: Mesh) -> list[int]:
    """The rows of the global batch that this process reads: those that lie on its devices.

    Processes that tensor or context cut across read the same rows.
    """
    places = batch_sharding(mesh).addressable_devices_indices_map((rows,))
    return sorted({row for (part,) in places.values() for row in range(*part.indices(rows))})


def to_devices(batch: PackedBatch, mesh: Mesh) -> PackedBatch:
    """This process's rows of a host batch, in the order of `own_rows` -> global arrays, sharded by rows."""
    parts = shards("rows", mesh)
    own = len(own_rows(parts, mesh))
    sharding = batch_sharding(mesh)

    def place(x: np.ndarray) -> jax.Array:
        x = np.asarray(x)
        rows = len(x) * parts // own
        position = {row: i for i, row in enumerate(own_rows(rows, mesh))}

        def part(index: tuple[slice, ...]) -> np.ndarray:
            first, last, _ = index[0].indices(rows)
            return x[position[first] : position[first] + last - first]

        return jax.make_array_from_callback((rows, *x.shape[1:]), sharding, part)

    return jax.tree.map(place, batch)


def micro_batch(tree: Any, part: tuple[jax.Array, int]) -> Any:
    """Rows index, index + parts, ... of every array: each device gives as many of its rows to every micro-batch."""
    index, parts = part

    def cut(x: jax.Array) -> jax.Array:
        mine = x.reshape(x.shape[0] // parts, parts, *x.shape[1:])[:, index]
        return constrain(mine, "rows", *(None,) * (mine.ndim - 1))

    return jax.tree.map(cut, tree)
