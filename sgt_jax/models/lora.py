"""Adapters added to the parameters of a model: W + s B A on the leaves that its linear layers are.

`checkpoints/adapters.py` reads what PEFT writes; a family says with `linears` where each module lives in its tree.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax import trees
from sgt_jax.checkpoints import adapters
from sgt_jax.checkpoints.adapters import Adapter, Low
from sgt_jax.checkpoints.names import NameMap, Source


class AdapterPart(NamedTuple):
    """A regular expression for the names of modules, and the field that keeps gradients from them; "" if none does."""

    pattern: str
    held: str = ""


def linears(names: NameMap) -> dict[str, Source]:
    """{module: where its weight lives} of the linear layers of a name map: matrices [out, in] that are kernels with us."""
    return {
        name.removesuffix(".weight"): source
        for name, source in names.items()
        if name.endswith(".weight") and len(source.shape) == 2 and source.axes == (1, 0)
    }


def merged(params: Any, modules: NameMap, adapter: Adapter, strength: float = 1.0) -> Any:
    """Parameters that compute what base and adapter compute together; leaves without an adapter are shared with `params`.

    Args:
      params: the tree of a model; its leaves keep dtype and sharding, sums are made in float32.
      modules: of `Family.linears`.
      adapter: what was read; see `adapters.bind` for what is checked.
      strength: what every scale is multiplied with; at 0 the parameters are those of the base.

    Raises:
      CheckpointError: the adapter is of another model.
    """
    lows = adapters.bind(adapter, {module: source.shape for module, source in modules.items()})
    by_leaf: dict[str, list[tuple[Source, Low]]] = {}
    for module, low in lows.items():
        by_leaf.setdefault(modules[module].path, []).append((modules[module], low))
    if strength == 0:
        return params

    def one(path: Any, leaf: Any) -> Any:
        for source, low in by_leaf.get(trees.path_name(path), ()):
            leaf = _add(leaf, source, low, strength)
        return leaf

    return jax.tree_util.tree_map_with_path(one, params)


def _add(leaf: Any, source: Source, low: Low, strength: float) -> Any:
    parts = (np.asarray(low.a), np.asarray(low.b), low.magnitude)
    return _added(leaf, *parts, jnp.float32(low.scale * strength), source.layer)


@jax.jit
def _sum(kernel: jax.Array, a: jax.Array, b: jax.Array, magnitude: jax.Array | None, scale: jax.Array) -> jax.Array:
    delta = jnp.matmul(b, a, precision="highest").T  # our kernels are [in, out]
    total = kernel.astype(jnp.float32) + scale * delta
    if magnitude is not None:
        total = total * (magnitude / jnp.linalg.norm(total, axis=0))
    return total.astype(kernel.dtype)


def _added(leaf: Any, a: Any, b: Any, magnitude: Any, scale: Any, layer: int | None) -> Any:
    leaf = jnp.asarray(leaf)
    if layer is None:
        return _sum(leaf, a, b, magnitude, scale)
    return leaf.at[layer].set(_sum(leaf[layer], a, b, magnitude, scale))
