"""How the slots of lanes lie next to each other: joined for attention, flat for matrix products, whatever the mesh.

When the mesh cuts slots up (axis context), a plain concatenation of two lanes would move most slots to other devices. The
order of slots in memory is free, so `join` puts together what lies on one device: part 0 of every lane, then part 1, ...
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sgt_jax.parallel.partitioning import shards


def _parts(lengths: Sequence[int]) -> int:
    """Parts that all lanes are cut into; 1 unless the mesh's context axis divides every lane."""
    parts = shards("slots")
    return parts if all(length % parts == 0 for length in lengths) else 1


def join(lanes: Sequence[jax.Array]) -> jax.Array:
    """Lanes [B, S_i, ...] as one [B, sum of S_i, ...]: one after the other within each part of the mesh."""
    parts = _parts([x.shape[1] for x in lanes])
    if parts == 1:
        return jnp.concatenate(lanes, axis=1)
    cut = [x.reshape(x.shape[0], parts, x.shape[1] // parts, *x.shape[2:]) for x in lanes]
    joined = jnp.concatenate(cut, axis=2)
    return joined.reshape(joined.shape[0], joined.shape[1] * joined.shape[2], *joined.shape[3:])


def split(joined: jax.Array, lengths: Sequence[int]) -> list[jax.Array]:
    """The inverse of `join`; `lengths` are those of the lanes."""
    parts = _parts(lengths)
    cut = joined.reshape(joined.shape[0], parts, joined.shape[1] // parts, *joined.shape[2:])
    ends = [sum(lengths[: i + 1]) // parts for i in range(len(lengths) - 1)]
    return [
        x.reshape(joined.shape[0], length, *joined.shape[2:])
        for x, length in zip(jnp.split(cut, ends, axis=2), lengths)
    ]


def in_order(joined: jax.Array, lengths: Sequence[int]) -> jax.Array:
    """Joined lanes as a plain concatenation, the order in which inner states are shown."""
    return joined if _parts(lengths) == 1 else jnp.concatenate(split(joined, lengths), axis=1)


def flat(x: jax.Array) -> jax.Array:
    """[B, S, ...] as [B*S, ...], unless the mesh cuts slots up.

    XLA's CPU backend takes much longer over the gradients of batched products; slots that are cut up within rows cannot be
    merged with them.
    """
    return x if shards("slots") > 1 else x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
