"""Texts of many requests at once, each in a slot of one batch: a slot whose text has ended is given to the next request.

The cache of all slots has one fixed size. Every slot has its own count of what it holds, so that requests of different
lengths and ages stand side by side, and the mask rule hides everything else. Pure functions, compiled by the caller.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sgt_jax.batch import CAUSAL, TokenInfo
from sgt_jax.models.transformer import Cache, OpenCache, with_room


class Slots(NamedTuple):
    """The state of B texts.

    Attributes:
      cache: keys, values and facts of what each has read and written; `at` [B] is where the next token goes.
      split, order, position: [B], of the next token.
      token: [B], the newest token, which is not in the cache yet.
      count: [B], tokens picked so far.
      seed: [B]; temperature: float32 [B], 0 for greedy.
    """

    cache: OpenCache
    split: jax.Array
    order: jax.Array
    position: jax.Array
    token: jax.Array
    count: jax.Array
    seed: jax.Array
    temperature: jax.Array


def opened(cache: Cache, logits: jax.Array, places: tuple[jax.Array, ...], seed: jax.Array, temperature: jax.Array) -> Slots:
    """The state right after reading: `logits` [B, V] pick the first token; `places` are split, order, position of the next.

    The cache must hold its real entries in front.
    """
    used = jnp.sum(cache.info.sample > 0, axis=1, dtype=jnp.int32)
    count = jnp.zeros_like(used)
    token = pick(logits, seed, count, temperature)
    return Slots(with_room(cache, 0, used), *places, token, count + 1, seed, temperature)


def pick(logits: jax.Array, seed: jax.Array, count: jax.Array, temperature: jax.Array) -> jax.Array:
    """The next ids int32 [B] from float32 [B, V]; what is drawn depends on a row's seed and count alone."""
    keys = jax.vmap(lambda s, n: jax.random.fold_in(jax.random.key(s), n))(seed, count)
    warm = jnp.where(temperature > 0, temperature, 1.0)[:, None]
    drawn = jax.vmap(jax.random.categorical)(keys, logits / warm)
    return jnp.where(temperature > 0, drawn, jnp.argmax(logits, axis=-1)).astype(jnp.int32)


def next_info(state: Slots, live: jax.Array) -> TokenInfo:
    """The facts [B, 1] of the newest tokens; rows that are not `live` add a hole."""
    position = state.position[:, None]
    if state.cache.info.position.ndim == 3:
        position = jnp.broadcast_to(position[..., None], (*position.shape, state.cache.info.position.shape[-1]))
    ones = jnp.ones_like(state.split)[:, None]
    return TokenInfo(
        sample=jnp.where(live, 1, 0)[:, None] * ones,
        split=state.split[:, None],
        order=state.order[:, None],
        position=position,
        mode=CAUSAL * ones,
    )


def advanced(state: Slots, cache: OpenCache, logits: jax.Array) -> Slots:
    """The state after its newest tokens were fed: `cache` holds them, `logits` [B, V] are of what follows."""
    token = pick(logits, state.seed, state.count, state.temperature)
    return state._replace(
        cache=cache,
        order=state.order + 1,
        position=state.position + 1,
        token=token,
        count=state.count + 1,
    )


def empty(like: Any, rows: int, length: int) -> Slots:
    """`rows` free slots of `length` cache entries, from the shapes of a state that has just been read."""

    def zeros(x: Any, axis: int | None = None) -> jax.Array:
        return jnp.zeros((rows, *(length if i == axis else n for i, n in enumerate(x.shape) if i)), x.dtype)

    old = like.cache
    keys, values = (tuple(zeros(x, 2) for x in layers) for layers in (old.keys, old.values))
    cache = OpenCache(keys, values, TokenInfo(*(zeros(x, 1) for x in old.info)), zeros(old.at))
    return Slots(cache, *(zeros(x) for x in like[1:]))


def insert(state: Slots, read: Slots, row: jax.Array, slot: jax.Array) -> Slots:
    """Puts row `row` of a state that has just been read into slot `slot`; what was there before is gone."""

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        one = new[row]
        if one.shape != old.shape[1:]:  # more or fewer entries
            one = one[tuple(slice(length) for length in old.shape[1:])]
            one = jnp.pad(one, [(0, length - own) for length, own in zip(old.shape[1:], one.shape)])
        return old.at[slot].set(one.astype(old.dtype))

    return jax.tree.map(put, state, read)
