"""Pieces that decoders of every family share: MLP, embedding, key-value cache."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from sgt_jax.batch import TokenInfo
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
