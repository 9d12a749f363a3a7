"""Texts of many requests at once, each in a slot of one batch: a slot whose text has ended is given to the next request.

The cache of all slots has one fixed size. Every slot has its own count of what it holds, so that requests of different
lengths and ages stand side by side, and the mask rule hides everything else. Pure functions, compiled by the caller.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sgt_jax.batch import CAUSAL, TokenInfo
from sgt_jax.models.transformer import Cache


class Slots(NamedTuple):
    """The state of B texts.

    Attributes:
      cache: keys, values and facts of what each has read and written; indexed by layer as a tuple.
      used: [B], cache entries that are taken; the next token goes there.
      split, order, position: [B], of the next token.
      token: [B], the newest token, which is not in the cache yet.
      count: [B], tokens picked so far.
      seed: [B]; temperature: float32 [B], 0 for greedy.
    """

    cache: Cache
    used: jax.Array
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
    return Slots(cache, used, *places, token, count + 1, seed, temperature)


def pick(logits: jax.Array, seed: jax.Array, count: jax.Array, temperature: jax.Array) -> jax.Array:
    """The next ids int32 [B] from float32 [B, V]; what is drawn depends on a row's seed and count alone."""
    keys = jax.vmap(lambda s, n: jax.random.fold_in(jax.random.key(s), n))(seed, count)
    warm = jnp.where(temperature > 0, temperature, 1.0)[:, None]
    drawn = jax.vmap(jax.random.categorical)(keys, logits / warm)
    return jnp.where(temperature > 0, drawn, jnp.argmax(logits, axis=-1)).astype(jnp.int32)


def with_room(cache: Cache, slots: int) -> Cache:
    """The cache with so many holes behind it, indexed by layer as a tuple."""

    def room(x: jax.Array) -> jax.Array:
        return jnp.pad(x, ((0, 0), (0, slots), *((0, 0),) * (x.ndim - 2)))

    keys, values = (tuple(room(x[layer]) for layer in range(len(x))) for x in (cache.keys, cache.values))
    return Cache(keys, values, TokenInfo(*(room(x) for x in cache.info)))


def append(cache: Cache, fresh: Cache, used: jax.Array) -> Cache:
    """One more entry a row, [B, 1, ...], at its own place `used` [B]; a full row stays as it is."""
    rows = jnp.arange(len(used))

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[rows, used].set(new[:, 0].astype(old.dtype), mode="drop")

    return Cache(
        tuple(put(a, b) for a, b in zip(cache.keys, fresh.keys, strict=True)),
        tuple(put(a, b) for a, b in zip(cache.values, fresh.values, strict=True)),
        TokenInfo(*(put(a, b) for a, b in zip(cache.info, fresh.info, strict=True))),
    )


def next_info(state: Slots, live: jax.Array) -> TokenInfo:
    """The facts [B, 1] of the newest tokens; rows that are not `live` add a hole."""
    position = state.position[:, None]
    if state.cache.info.position.ndim == 3:
        position = jnp.broadcast_to(position[..., None], (*position.shape, state.cache.info.position.shape[-1]))
    ones = jnp.ones_like(state.used)[:, None]
    return TokenInfo(
        sample=jnp.where(live, 1, 0)[:, None] * ones,
        split=state.split[:, None],
        order=state.order[:, None],
        position=position,
        mode=CAUSAL * ones,
    )


def advanced(state: Slots, fresh: Cache, logits: jax.Array) -> Slots:
    """The state after its newest tokens were fed: `fresh` are their entries [B, 1, ...], `logits` [B, V] what follows."""
    token = pick(logits, state.seed, state.count, state.temperature)
    return state._replace(
        cache=append(state.cache, fresh, state.used),
        used=state.used + 1,
        order=state.order + 1,
        position=state.position + 1,
        token=token,
        count=state.count + 1,
    )


def empty(like: Any, rows: int, length: int) -> Slots:
    """`rows` free slots of `length` cache entries, from the shapes of a state that has just been read."""

    def zeros(x: Any, entries: bool) -> jax.Array:
        return jnp.zeros((rows, *((length, *x.shape[2:]) if entries else x.shape[1:])), x.dtype)

    cache = jax.tree.map(lambda x: zeros(x, True), like.cache)
    return Slots(cache, *(zeros(x, False) for x in like[1:]))


def insert(state: Slots, read: Slots, row: jax.Array, slot: jax.Array) -> Slots:
    """Puts row `row` of a state that has just been read into slot `slot`; what was there before is gone."""

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        one = new[row]
        if old.ndim > 1 and one.shape != old.shape[1:]:
            one = jnp.pad(one[: old.shape[1]], ((0, max(old.shape[1] - len(one), 0)), *((0, 0),) * (one.ndim - 1)))
        return old.at[slot].set(one.astype(old.dtype))

    return jax.tree.map(put, state, read)
