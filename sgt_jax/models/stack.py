"""Runs equal layers one after the other: unrolled, or stacked and scanned, with or without recomputation."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from sgt_jax.errors import ConfigError
from sgt_jax.models.attention.blockwise import SAVED

_INPUT = "layer_input"
_HOST = dict(offload_src="device", offload_dst="pinned_host")
_policies = jax.checkpoint_policies

# What the backward pass finds of a layer; all else it computes again.
REMAT = {
    "none": None,  # everything: nothing is computed again
    "full": _policies.nothing_saveable,  # the layer's inputs
    # and the results of weight matmuls, and of attention where the backend names them
    "dots": _policies.save_from_both_policies(
        _policies.dots_with_no_batch_dims_saveable, _policies.save_only_these_names(SAVED)
    ),
    # The same two with what is kept waiting in the host's memory.
    "full_offload": _policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[], names_which_can_be_offloaded=[_INPUT], **_HOST
    ),
    "dots_offload": _policies.offload_dot_with_no_batch_dims(**_HOST),
}


def layer_input(x: jax.Array) -> jax.Array:
    """Marks what a layer starts from, so that "full_offload" finds it."""
    return checkpoint_name(x, _INPUT)


def check_remat(remat: str, device: jax.Device) -> None:
    """Raises ValueError if a policy keeps things in a host memory that this device cannot reach."""
    kinds = {memory.kind for memory in device.addressable_memories()}
    if remat.endswith("offload") and _HOST["offload_dst"] not in kinds:
        raise ConfigError(
            f"config.model.remat='{remat}' needs {_HOST['offload_dst']} memory, but {device.platform} devices have "
            f"{', '.join(sorted(kinds))}; choose 'full' or 'dots'"
        )


def run_layers(
    layer: type[nn.Module], attributes: dict[str, Any], count: int, scan: bool, remat: str,
    carry: Any, per_layer: tuple | None, *shared: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """Applies `count` layers inside the compact method that calls this.

    Parameters are named `layers_0/...`, `layers_1/...`, or, when scanned, `layers/...` with a leading layer axis.

    Args:
      layer: module class; called as layer(**attributes)(carry, per_layer_i, *shared) -> (carry, out).
      per_layer: tuple of things indexed by layer (a tuple over layers, or an array with a leading layer axis), or None.
      shared: what every layer gets.

    Returns:
      The last carry; what the layers put out: a list over layers, or, when scanned, one tree with a leading layer axis.
    """
    if remat != "none":
        # Inside a scan nothing can be merged with the recomputation, so the barrier is not needed.
        layer = nn.remat(layer, policy=REMAT[remat], prevent_cse=not scan)
    if not scan:
        outs = []
        for i in range(count):
            mine = None if per_layer is None else tuple(x[i] for x in per_layer)
            carry, out = layer(**attributes, name=f"layers_{i}")(carry, mine, *shared)
            outs.append(out)
        return carry, outs
    if per_layer is not None:
        per_layer = tuple(jnp.stack(x) if isinstance(x, tuple | list) else x for x in per_layer)
    scanned = nn.scan(
        layer,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0,) + (nn.broadcast,) * len(shared),
        length=count,
    )
    return scanned(**attributes, name="layers")(carry, per_layer, *shared)


def unstacked(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters of scanned layers ("layers", leading layer axis) as those of unrolled ones ("layers_0", ...)."""
    rest = {name: x for name, x in params.items() if name != "layers"}
    count = jax.tree.leaves(params["layers"])[0].shape[0]
    return rest | {f"layers_{i}": jax.tree.map(lambda x: x[i], params["layers"]) for i in range(count)}  # noqa: B023


def stacked(params: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `unstacked`."""
    names = sorted((name for name in params if name.startswith("layers_")), key=lambda name: int(name[7:]))
    rest = {name: x for name, x in params.items() if name not in names}
    return rest | {"layers": jax.tree.map(lambda *x: jnp.stack(x), *(params[name] for name in names))}
