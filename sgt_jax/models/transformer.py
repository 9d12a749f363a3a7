"""Pieces that decoders of every family share: MLP, embedding, key-value cache and attention over it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from sgt_jax.batch import TokenInfo
from sgt_jax.models.attention import attend, attend_heads_first
from sgt_jax.models.layers import Linear, weight
from sgt_jax.parallel.partitioning import constrain


class Cache(NamedTuple):
    """Keys (normalised and rotated) and values of slots read before, and their facts.

    Attributes:
      keys, values: indexed by layer: a tuple over layers of [B, T, KV, D], or one array [L, B, T, KV, D].
      info: fields [B, T]; sample 0 marks slots that nobody may see.
    """

    keys: Any
    values: Any
    info: TokenInfo


class OpenCache(NamedTuple):
    """A cache with room for what is written next, one slot a row and step: what loops that write texts carry.

    Layers write into it before they attend over it, and its heads lie before its slots: so a step changes the arrays where
    they are, and reads them once. Joining a cache with the new slots copies all of it, several times.

    Attributes:
      keys, values: tuples over layers of [B, KV, T, D], or of [KV, T, D] for a single row: XLA drops an axis of one from
        products, and then copies what has it.
      info: fields [B, T]; sample 0 marks slots that nobody may see, those not written yet among them.
      at: the slot that is written next: int32 [] of all rows, or [B].
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    info: TokenInfo
    at: jax.Array

    def noted(self, new: TokenInfo) -> TokenInfo:
        """The facts with those of the slots [B, 1] that are written next."""
        return TokenInfo(*(_write(old, fact, self.at, 1) for old, fact in zip(self.info, new, strict=True)))

    def after(self, info: TokenInfo, outs: Any) -> "OpenCache":
        """The cache after a step: `info` as `noted`; `outs` is what `run_layers` put out, "cache" of each layer in it."""
        pairs = zip(*outs["cache"], strict=True) if isinstance(outs, dict) else (out["cache"] for out in outs)
        return OpenCache(*(tuple(x) for x in zip(*pairs, strict=True)), info, self.at + 1)


class InPlace(NamedTuple):
    """What stands for a prepared mask where a step writes into an `OpenCache`.

    Attributes:
      at: the place that is written, as in the cache.
      queries, keys: facts of the new slots [B, 1] and of all slots of the cache, the new ones among them.
    """

    at: jax.Array
    queries: TokenInfo
    keys: TokenInfo


def with_room(cache: Cache, slots: int, at: jax.Array | None = None) -> OpenCache:
    """The cache with so many holes behind it, the first of which is written next, or those at `at` [B]."""

    def room(x: jax.Array, axis: int) -> jax.Array:
        return jnp.pad(x, [(0, slots if i == axis else 0) for i in range(x.ndim)])

    keys, values = (tuple(room(x[i].swapaxes(1, 2), 2) for i in range(len(x))) for x in (cache.keys, cache.values))
    rows, used = cache.info.sample.shape
    if rows == 1 and at is None:
        keys, values = (tuple(x[0] for x in layers) for layers in (keys, values))
    info = TokenInfo(*(room(x, 1) for x in cache.info))
    return OpenCache(keys, values, info, jnp.int32(used) if at is None else at)


def _write(old: jax.Array, new: jax.Array, at: jax.Array, axis: int) -> jax.Array:
    """`old` with one slot a row, `new`, in place `at` of this axis; a row without that place stays as it is."""
    new = new.astype(old.dtype)
    if at.ndim == 0:
        return jax.lax.dynamic_update_slice_in_dim(old, new, at, axis)
    rows = jnp.arange(len(at))
    place = (rows, at) if axis == 1 else (rows, slice(None), at)
    return old.at[place].set(jnp.squeeze(new, axis), mode="drop")


def attend_after(
    q: jax.Array, k: jax.Array, v: jax.Array, cached: tuple[jax.Array, jax.Array] | None, mask: Any, cfg: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:  # fmt: skip
    """Attention of new slots over those read before and themselves.

    Args:
      q, k, v: of the new slots, [B, S, H or KV, D].
      cached: keys and values of one layer, of a `Cache`, or of an `OpenCache` where the mask is `InPlace`.
      mask: what `attention.prepare` made, or `InPlace`.
      cfg: with `attention`, `attention_block` and `precision`.

    Returns:
      [B, S, H, D]; `cached`, with the new slot where the mask is `InPlace`.
    """
    if isinstance(mask, InPlace):
        shape = cached[0].shape
        fresh = (x.reshape(*shape[:-2], 1, shape[-1]) for x in (k, v))
        cached = tuple(_write(old, new, mask.at, len(shape) - 2) for old, new in zip(cached, fresh))
        whole = (x.reshape(len(q), *shape[-3:]) for x in cached)
        return attend_heads_first(q, *whole, mask.queries, mask.keys, cfg.precision), cached
    if cached is not None:
        k, v = (jnp.concatenate([old.astype(new.dtype), new], axis=1) for old, new in zip(cached, (k, v)))
    return attend(q, k, v, mask, backend=cfg.attention, block=cfg.attention_block, precision=cfg.precision), cached


def concat_info(first: TokenInfo, second: TokenInfo) -> TokenInfo:
    """Facts of two runs of slots one after the other."""
    return TokenInfo(*(jnp.concatenate([a, b], axis=1) for a, b in zip(first, second)))


class Mlp(nn.Module):
    """down(silu(gate x) * up x), without biases.

    Attributes:
      hidden, width: of what goes in and out, and between.
      linear: (features, name) -> a linear layer.
    """

    hidden: int
    width: int
    linear: Callable[[int, str], Linear]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.silu(self.linear(self.width, "gate_proj")(x)) * self.linear(self.width, "up_proj")(x)
        x = constrain(x, "rows", *("slots",) * (x.ndim - 2), "mlp")
        return self.linear(self.hidden, "down_proj")(x)


class Embedding(nn.Module):
    """Rows of a table."""

    rows: int
    width: int
    table_init: Any
    dtype: Any

    @nn.compact
    def __call__(self, index: jax.Array) -> jax.Array:
        found = weight(self, "embedding", self.table_init, (self.rows, self.width))[index].astype(self.dtype)
        # Every device looks up its channels for the rows of all; the next constraint turns that into an exchange.
        return constrain(found, "copies", "slots", "embed") if found.ndim == 3 else found
