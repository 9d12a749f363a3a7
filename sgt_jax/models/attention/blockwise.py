"""Attention over the allowed blocks only, in plain XLA: for every platform, forward and backward.

A scan goes through the blocks of queries. For each of them a loop visits the blocks of keys that hold an allowed pair,
as many as the mask of the batch has: all shapes are static, and the time follows the mask. The softmax runs along
(running maximum, sum of weights), and its logarithm is kept for the backward pass, which visits the same pairs once.
Nothing of size [S, T] exists in memory.

Layout: rows end to end, cut into blocks: q [N, K, r*block, D], k and v [M, K, block, D], with r = H/K query heads per
key-value head, so that one product serves all query heads of a key-value head.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from sgt_jax.batch import TokenInfo
from sgt_jax.models.attention.blocks import block_map, intervals, padded

SAVED = "attention"  # the name under which a recomputation policy finds what the backward pass needs
VISIT = "visit_allowed_blocks"  # the name of the loop in a traced step, for those who count work
_SMALLEST, _FEWEST = 64, 16  # a lane is cut into at least 16 blocks, but into none below 64 slots
# A forbidden score lies below the start of every running maximum, so its weight is exactly zero even in an empty row.
_MASKED, _LOWEST = -1e30, -1e20


class Plan(NamedTuple):
    """What depends on the mask alone; made once per step and used by all layers.

    Attributes:
      at: [B, n, block] ranks of the queries; first, last: [B, m, block], which of them see each key (`blocks.Intervals`).
      order: [B, n, m] numbers of the blocks of keys, those that hold an allowed pair first.
      count: [B, n], how many these are: the loop's trip count.
    """

    at: jax.Array
    first: jax.Array
    last: jax.Array
    order: jax.Array
    count: jax.Array


class _Call(NamedTuple):
    """Static facts of a call."""

    scale: float
    precision: Any


def block_size(slots: int, largest: int) -> int:
    """Slots of a block of a lane: the largest allowed, less in a lane that would have fewer than 16 blocks (64 do then).

    As many blocks as that gives share the slots evenly, in eighths of a block, so that little of the last one is empty.
    """
    size = min(largest, max(_SMALLEST, 1 << max(slots // _FEWEST, 1).bit_length() - 1))
    even, step = -(-slots // -(-slots // size)) if slots else size, max(size // 8, 1)
    return min(-(-even // step) * step, size)


def make_plan(query: TokenInfo, key: TokenInfo, block: int) -> Plan:
    """The plan of a batch; `block` is the largest block of queries and of keys."""
    q_block, k_block = (block_size(info.sample.shape[1], block) for info in (query, key))
    facts = padded(intervals(query, key), q_block, k_block)
    active = block_map(facts, q_block, k_block)
    order = jnp.argsort(~active, axis=2, stable=True).astype(jnp.int32)
    rows = facts.at.shape[0]
    return Plan(
        facts.at.reshape(rows, -1, q_block), facts.first.reshape(rows, -1, k_block),
        facts.last.reshape(rows, -1, k_block), order, jnp.sum(active, axis=2, dtype=jnp.int32),
    )  # fmt: skip


def attend(q: jax.Array, k: jax.Array, v: jax.Array, plan: Plan, block: int, precision: Any) -> jax.Array:
    """Attention under a plan that `make_plan` made with the same block -> [B, S, H, D]."""
    del block  # the plan's shapes tell
    b, s, h, d = q.shape
    kv_heads = k.shape[2]
    if not q.size or not k.size:
        return jnp.zeros_like(q)
    blocks, size = plan.at.shape[1:]
    out = _attend(_cut(q, size, kv_heads), *(_cut(x, plan.first.shape[2], kv_heads) for x in (k, v)), plan,
                  _Call(d**-0.5, precision))  # fmt: skip
    out = out.reshape(b, blocks, kv_heads, h // kv_heads, size, d).transpose(0, 1, 4, 2, 3, 5)
    return out.reshape(b, blocks * size, h, d)[:, :s]


def _cut(x: jax.Array, size: int, kv_heads: int) -> jax.Array:
    """[B, S, H, D] -> [B*n, K, r*size, D], padded to whole blocks."""
    b, s, h, d = x.shape
    x = jnp.pad(x, ((0, 0), (0, -s % size), (0, 0), (0, 0)))
    x = x.reshape(b, -1, size, kv_heads, h // kv_heads, d).transpose(0, 1, 3, 4, 2, 5)
    return x.reshape(-1, kv_heads, h // kv_heads * size, d)


# -- The function and its gradient -------------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q: jax.Array, k: jax.Array, v: jax.Array, plan: Plan, call: _Call) -> jax.Array:
    return _forward(q, k, v, plan, call)[0]


def _attend_forward(q: jax.Array, k: jax.Array, v: jax.Array, plan: Plan, call: _Call) -> tuple[jax.Array, tuple]:
    out, lse = (checkpoint_name(x, SAVED) for x in _forward(q, k, v, plan, call))
    return out, (q, k, v, plan, out, lse)


def _products(call: _Call) -> tuple[Any, Any, Any]:
    """a @ b.T, a @ b and a.T @ b of every key-value head, summed in float32."""
    kw = dict(precision=call.precision, preferred_element_type=jnp.float32)
    return tuple(functools.partial(jnp.einsum, rule, **kw) for rule in ("kqd,ktd->kqt", "kqt,ktd->kqd", "kqt,kqd->ktd"))


def _mask(plan: Plan, i: jax.Array, j: jax.Array, group: int) -> jax.Array:
    """What is added to the scores of block i of queries against block j of keys: float32 [r*q_block, k_block]."""
    at, first, last = (x.reshape(-1, x.shape[2])[n] for x, n in ((plan.at, i), (plan.first, j), (plan.last, j)))
    allowed = (first <= at[:, None]) & (at[:, None] <= last)
    return jnp.tile(jnp.where(allowed, 0.0, _MASKED), (group, 1))


def _visit(plan: Plan, i: jax.Array, step: Any, carry: Any) -> Any:
    """Runs `step(j, carry)` for every block j of keys that holds a pair allowed for block i of queries."""

    def visit(order: jax.Array, count: jax.Array, carry: Any) -> Any:
        _, blocks, of_keys = order.shape
        mine, start = order.reshape(-1, of_keys)[i], i // blocks * of_keys
        return jax.lax.fori_loop(0, count.reshape(-1)[i], lambda n, carry: step(start + mine[n], carry), carry)

    visit.__name__ = VISIT
    return jax.jit(visit)(plan.order, plan.count, carry)


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, plan: Plan, call: _Call) -> tuple[jax.Array, jax.Array]:
    """-> out like q, log-sum-exp float32 [N, K, r*block, 1]."""
    blocks, kv_heads, queries, size = q.shape
    against, times, _ = _products(call)
    group = queries // plan.at.shape[2]

    def one(_: None, part: tuple[jax.Array, jax.Array]) -> tuple[None, tuple[jax.Array, jax.Array]]:
        i, mine = part

        def step(j: jax.Array, carry: tuple) -> tuple:
            top, weight, total = carry
            scores = against(mine, k[j]) * call.scale + _mask(plan, i, j, group)
            higher = jnp.maximum(top, jnp.max(scores, axis=2, keepdims=True))
            weights, shrink = jnp.exp(scores - higher), jnp.exp(top - higher)
            weight = shrink * weight + jnp.sum(weights, axis=2, keepdims=True)
            return higher, weight, shrink * total + times(weights.astype(v.dtype), v[j])

        column = jnp.zeros((kv_heads, queries, 1), jnp.float32)
        start = (column + _LOWEST, column, jnp.zeros((kv_heads, queries, size), jnp.float32))
        top, weight, total = _visit(plan, i, step, start)
        some = jnp.where(weight > 0, weight, 1.0)
        return None, ((total / some).astype(q.dtype), jnp.where(weight > 0, top + jnp.log(some), 0.0))

    return jax.lax.scan(one, None, (jnp.arange(blocks), q))[1]


def _attend_backward(call: _Call, saved: tuple, d_out: jax.Array) -> tuple:
    q, k, v, plan, out, lse = saved
    against, times, turned = _products(call)
    group = q.shape[2] // plan.at.shape[2]

    def one(carry: tuple, part: tuple) -> tuple[tuple, jax.Array]:
        i, mine, d_mine, out_mine, lse_mine = part
        delta = jnp.sum(d_mine.astype(jnp.float32) * out_mine.astype(jnp.float32), axis=2, keepdims=True)

        def step(j: jax.Array, carry: tuple) -> tuple:
            dq, dk, dv = carry
            scores = against(mine, k[j]) * call.scale + _mask(plan, i, j, group)
            weights = jnp.exp(scores - lse_mine)
            d_scores = weights * (against(d_mine, v[j]) - delta)
            dq = dq + times(d_scores.astype(k.dtype), k[j])
            dk = dk.at[j].add(turned(d_scores.astype(q.dtype), mine))
            return dq, dk, dv.at[j].add(turned(weights.astype(d_mine.dtype), d_mine))

        dq, *carry = _visit(plan, i, step, (jnp.zeros(mine.shape, jnp.float32), *carry))
        return tuple(carry), (dq * call.scale).astype(q.dtype)

    zeros = tuple(jnp.zeros(x.shape, jnp.float32) for x in (k, v))
    (dk, dv), dq = jax.lax.scan(one, zeros, (jnp.arange(q.shape[0]), q, d_out, out, lse))
    return dq, (dk * call.scale).astype(k.dtype), dv.astype(v.dtype), None


_attend.defvjp(_attend_forward, _attend_backward)
