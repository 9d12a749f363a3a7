"""Where a model's attention goes: softmax weight per group of keys, from captured queries and keys, in blocks.

These are the weights that the model itself used: q and k come out of its own forward (normalised, with bias and rotary
positions), the mask is `batch.may_attend`. No S x S map ever exists: blocks of queries walk over blocks of keys and keep
running sums, as in an online softmax, so memory grows with the sequence and not with its square.

Shapes: B rows, Q queries, T keys, H heads, K key-value heads, D head size, C groups of keys, L layers, N kinds of queries.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sgt_jax.batch import TokenInfo, may_attend

QUERY_BLOCK, KEY_BLOCK = 128, 512
_LOWEST = -1e30  # finite: a block without any allowed key must give no NaN


class Allocation(NamedTuple):
    """Of every query and head: `mass` [B, Q, H, C], the softmax weight on each group; `entropy` [B, Q, H, C] in nats,
    of the weights within a group, renormalised there. Both are 0 where a query may attend to nothing of the group.
    """

    mass: jax.Array
    entropy: jax.Array


def allocate(
    q_BQHD: jax.Array, k_BTKD: jax.Array, query: TokenInfo, key: TokenInfo, groups_BTC: jax.Array,
    query_block: int = QUERY_BLOCK, key_block: int = KEY_BLOCK,
) -> Allocation:  # fmt: skip
    """How each query spreads its attention over groups of keys.

    Args:
      q_BQHD, k_BTKD: as attention used them; K divides H.
      query, key: facts of these slots, fields [B, Q] and [B, T].
      groups_BTC: membership in [0, 1] of every key in every group: 0.25 counts a quarter of the key's weight. Groups
        may overlap and need not cover all keys.
      query_block, key_block: how many scores per head exist at a time.
    """
    b, q_len, h, d = q_BQHD.shape
    t, kv = k_BTKD.shape[1:3]
    query_block, key_block = min(query_block, max(q_len, 1)), min(key_block, max(t, 1))

    def cut(x: jax.Array, block: int) -> jax.Array:
        # Padding has sample 0: it attends to nothing, and nothing to it.
        x = jnp.pad(x, [(0, 0), (0, -x.shape[1] % block)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(b, -1, block, *x.shape[2:]), 1, 0)

    keys = (cut(k_BTKD, key_block), jax.tree.map(lambda x: cut(x, key_block), key), cut(groups_BTC, key_block))

    def of_queries(part: tuple[jax.Array, TokenInfo]) -> tuple[jax.Array, jax.Array]:
        q, q_info = part
        q = q.astype(jnp.float32).reshape(b, query_block, kv, h // kv, d) * d**-0.5
        zeros = jnp.zeros((b, kv, h // kv, query_block), jnp.float32)
        many = jnp.zeros((*zeros.shape, groups_BTC.shape[-1]), jnp.float32)

        def add(state: tuple, block: tuple) -> tuple[tuple, None]:
            top, total, mass, moment = state
            k, k_info, groups = block
            scores = _exact("bqkrd,btkd->bkrqt", q, k.astype(jnp.float32))
            allowed = may_attend(q_info, k_info)[:, None, None]
            new_top = jnp.maximum(top, jnp.max(jnp.where(allowed, scores, _LOWEST), axis=-1))
            below = scores - new_top[..., None]
            weights = jnp.where(allowed, jnp.exp(jnp.where(allowed, below, 0.0)), 0.0)
            fade = jnp.exp(top - new_top)
            groups = groups.astype(jnp.float32)
            # A fraction g of a key weighs g w: its logarithm has a part of its own.
            own = groups * jnp.log(jnp.where(groups > 0, groups, 1.0))
            fresh = _exact("bkrqt,btc->bkrqc", weights, groups)
            logs = _exact("bkrqt,btc->bkrqc", weights * below, groups) + _exact("bkrqt,btc->bkrqc", weights, own)
            # The old logarithms were taken below the old maximum.
            moved = moment + jnp.where(mass > 0, (top - new_top)[..., None] * mass, 0.0)
            state = (
                new_top,
                fade * total + jnp.sum(weights, axis=-1),
                fade[..., None] * mass + fresh,
                fade[..., None] * moved + logs,
            )
            return state, None

        (_, total, mass, moment), _ = jax.lax.scan(add, (zeros + _LOWEST, zeros, many, many), keys)
        some = mass > 0
        entropy = jnp.where(some, jnp.log(jnp.where(some, mass, 1.0)) - moment / jnp.where(some, mass, 1.0), 0.0)
        share = mass / jnp.where(total > 0, total, 1.0)[..., None]
        return share, jnp.maximum(entropy, 0.0)

    out = jax.lax.map(of_queries, (cut(q_BQHD, query_block), jax.tree.map(lambda x: cut(x, query_block), query)))

    def joined(x: jax.Array) -> jax.Array:
        """[blocks, B, K, H/K, block, C] -> [B, Q, H, C]."""
        x = jnp.moveaxis(x, 4, 2)
        return jnp.moveaxis(x, 0, 1).reshape(b, -1, h, x.shape[-1])[:, :q_len]

    return Allocation(*(joined(x) for x in out))


def _exact(subscripts: str, *arrays: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, *arrays, precision="highest", preferred_element_type=jnp.float32)


def layer_means(
    qs: Sequence[jax.Array], ks: Sequence[jax.Array], info: TokenInfo, queries_BQ: jax.Array, kinds_BQN: jax.Array,
    groups_BTC: jax.Array, **blocks: Any,
) -> Allocation:  # fmt: skip
    """Means over kinds of queries, for several layers of one forward: fields [L, B, N, H, C].

    Args:
      qs, ks: per layer [B, T, H, D] and [B, T, K, D], as captured.
      info: facts of the T slots.
      queries_BQ: which slots are looked at; negative ones are padding.
      kinds_BQN: 0 or 1, which kinds a query belongs to (answer word, question word, ...). A kind without queries gives 0.
      groups_BTC: see `allocate`.
    """
    index = jnp.maximum(queries_BQ, 0)
    query = TokenInfo(*(jnp.take_along_axis(x, index, axis=1) for x in info))
    query = query._replace(sample=jnp.where(queries_BQ >= 0, query.sample, 0))
    kinds = jnp.where(queries_BQ[..., None] >= 0, kinds_BQN, 0).astype(jnp.float32)
    share = kinds / jnp.maximum(jnp.sum(kinds, axis=1, keepdims=True), 1.0)

    def layer(pair: tuple[jax.Array, jax.Array]) -> Allocation:
        found = allocate(*pair, query, info, groups_BTC, **blocks)
        return Allocation(*(_exact("bqn,bqhc->bnhc", share, x) for x in found))

    chosen = jnp.stack([jnp.take_along_axis(q, index[..., None, None], axis=1) for q in qs])
    return jax.lax.map(layer, (chosen, jnp.stack(ks)))
