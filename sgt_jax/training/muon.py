"""Muon's direction with every matrix orthogonalised once: equal shapes stacked, the stacks shared out over the mesh.

`optax.contrib.scale_by_muon` iterates on each matrix by itself, on every device: many small products, all of them as
often as there are devices. Here matrices of equal shape (a tall one turned on its side) are one stack, and each device
takes its share of it. A matrix that is cut up over devices is gathered once, where it is iterated on. The iteration is
optax's, the state has optax's form, and the result is its to rounding.
"""

import collections
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, MuonState

from sgt_jax.parallel.partitioning import constrain, shards

_MATRICES = "matrices"  # the logical axis of a stack
_CUT = ("embed", "kept parts")  # those of its matrices


def _optax(**settings: Any) -> optax.GradientTransformation:
    """optax's own, for arrays [..., in, out]."""
    numbers = MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
    return optax.contrib.scale_by_muon(
        weight_dimension_numbers=lambda params: jax.tree.map(lambda _: numbers, params), **settings
    )


# Without momentum all that is left of it is the iteration, which optax does not offer by itself.
_ITERATION = _optax(beta=0.0, nesterov=False)


def scale_by_muon(beta: float) -> optax.GradientTransformation:
    """Momentum (Nesterov's) of decay `beta`, orthogonalised; for arrays [in, out] or [layer, in, out]."""

    def update(updates: Any, state: MuonState, params: Any = None) -> tuple[Any, MuonState]:
        del params
        mu = optax.tree.update_moment(updates, state.mu, beta, 1)
        count = optax.safe_increment(state.count)
        ahead = optax.tree.bias_correction(mu, beta, optax.safe_increment(count))
        now = optax.tree.bias_correction(updates, beta, count)
        directions = jax.tree.map(lambda m, g: beta * m + (1 - beta) * g, ahead, now)
        return orthogonalised(directions), MuonState(count, mu, state.ns_coeffs)

    return optax.GradientTransformation(_optax(beta=beta).init, update)


def orthogonalised(tree: Any) -> Any:
    """Every matrix of a tree (arrays [..., in, out]) after Muon's iteration."""
    leaves, structure = jax.tree.flatten(tree)
    groups: dict[tuple[int, int], list[int]] = collections.defaultdict(list)
    for i, leaf in enumerate(leaves):
        groups[tuple(sorted(leaf.shape[-2:]))].append(i)
    for shape, members in groups.items():
        stacks = [_wide(leaves[i]).reshape(-1, *shape) for i in members]
        done = _iterate(_everywhere(jnp.concatenate(stacks)))
        start = 0
        for i, stack in zip(members, stacks):
            mine = done[start : start + len(stack)]
            start += len(stack)
            tall = leaves[i].shape[-2:] != shape
            leaves[i] = (jnp.swapaxes(mine, -1, -2) if tall else mine).reshape(leaves[i].shape)
    return structure.unflatten(leaves)


def _wide(x: jax.Array) -> jax.Array:
    """Matrices on their side if they are tall."""
    return jnp.swapaxes(x, -1, -2) if x.shape[-2] > x.shape[-1] else x


def _iterate(stack: jax.Array) -> jax.Array:
    """Orthogonalises [n, rows, columns], each device its share of the n."""
    count = len(stack)
    padded = jnp.pad(stack, ((0, -count % shards(_MATRICES)), (0, 0), (0, 0)))
    padded = constrain(padded, _MATRICES, None, None)
    done, _ = _ITERATION.update(padded, _ITERATION.init(padded))
    return _everywhere(constrain(done, _MATRICES, None, None)[:count])


def _everywhere(stack: jax.Array) -> jax.Array:
    """A stack that every device holds, where every device holds the matrices.

    There it is joined and cut up again on the spot. Left to itself XLA joins each device's share out of padded pieces, in
    many small programs, and sends the results matrix by matrix. Where the mesh cuts matrices up it must do so.
    """
    return constrain(stack, None, None, None) if all(shards(axis) == 1 for axis in _CUT) else stack
