"""The mask rule as intervals of ranks, and which blocks of (queries, keys) hold an allowed pair: what a kernel needs.

Rank all slots of a row by (sample, split, order). Then every key is seen by one *interval* of ranks: a causal key from
its own rank, a key of a full or noise split from the first slot of its split, each to the end of its sample, or, in a
noise split, to the end of that split. So `batch.may_attend` is two comparisons per pair, whatever order the slots have
in memory, and no dense mask ever exists. Shapes: B rows, S query slots, T key slots.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sgt_jax.batch import CAUSAL, NOISE, TokenInfo

_NEVER = jnp.iinfo(jnp.int32).max
_COUNTED = 512  # slots whose ranks are counted at a time


class Intervals(NamedTuple):
    """`at` [B, S]: rank of each query. `first`, `last` [B, T]: ranks of the queries that see each key, both included."""

    at: jax.Array
    first: jax.Array
    last: jax.Array


class Steps(NamedTuple):
    """A walk over the pairs of blocks that hold an allowed pair, one entry per pair; only `count` entries count.

    The rows of a batch are laid end to end, so a block number counts through all rows. The walk is sorted by `major`
    (blocks of queries, or of keys), and visits every major block at least once, so that each result gets written.

    Attributes:
      major, minor: [N] numbers of the blocks.
      edge: [N], 1 for the first entry of its major block, 2 for the last, 3 for both, 0 otherwise.
      count: [1].
    """

    major: jax.Array
    minor: jax.Array
    edge: jax.Array
    count: jax.Array


def intervals(query: TokenInfo, key: TokenInfo) -> Intervals:
    """`may_attend(query, key)` is `(first <= at) & (at <= last)`; holds for any facts that `TokenInfo` allows.

    Ranks are counted, one block of slots against all: a TPU does that in a few milliseconds, while its compiler needs
    minutes for a sort of this length.
    """
    queries, same = query.sample.shape[-1], query is key
    facts = [jnp.asarray(getattr(key, name), jnp.int32) for name in ("sample", "split", "order", "mode")]
    if not same:
        more = [jnp.asarray(getattr(query, name), jnp.int32) for name in ("sample", "split", "order", "mode")]
        facts = [jnp.concatenate(pair, axis=-1) for pair in zip(more, facts)]
    rows, slots = facts[0].shape
    sample, split, order, _ = (x[:, None] for x in facts)
    size = min(_COUNTED, max(slots, 1))

    def one(mine: list[jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        sample_, split_, order_, mode_ = (x[..., None] for x in mine)
        in_sample = sample == sample_
        in_split = in_sample & (split == split_)
        before_sample = sample < sample_
        before_split = before_sample | (in_sample & (split < split_))

        def number(which: jax.Array) -> jax.Array:
            return jnp.sum(which, axis=-1, dtype=jnp.int32)

        rank = number(before_split | (in_split & (order < order_)))  # slots of equal order share a rank
        mode, real = mode_[..., 0], sample_[..., 0] > 0
        first = jnp.where(mode == CAUSAL, rank, number(before_split))
        last = jnp.where(mode == NOISE, number(before_split | in_split), number(before_sample | in_sample)) - 1
        # Padding is seen by nobody; ranked before all samples, it sees nobody either.
        return rank, jnp.where(real, first, _NEVER), jnp.where(real, last, -1)

    def cut(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(jnp.pad(x, ((0, 0), (0, -slots % size))).reshape(rows, -1, size), 1, 0)

    counted = jax.lax.map(one, [cut(x) for x in facts])
    rank, first, last = (jnp.moveaxis(x, 0, 1).reshape(rows, -1)[:, :slots] for x in counted)
    if same:
        return Intervals(rank, first, last)
    return Intervals(rank[:, :queries], first[:, queries:], last[:, queries:])


def padded(x: Intervals, q_block: int, k_block: int) -> Intervals:
    """Intervals padded to whole blocks with queries that see nothing and keys that nobody sees."""
    q_more, k_more = -x.at.shape[1] % q_block, -x.first.shape[1] % k_block

    def pad(array: jax.Array, more: int, value: int) -> jax.Array:
        return jnp.pad(array, ((0, 0), (0, more)), constant_values=value)

    return Intervals(pad(x.at, q_more, -1), pad(x.first, k_more, _NEVER), pad(x.last, k_more, -1))


def block_map(x: Intervals, q_block: int, k_block: int) -> jax.Array:
    """bool [B, S/q_block, T/k_block]: which pairs of blocks hold an allowed pair; exact. Lengths are whole blocks."""
    rows, keys = x.first.shape
    at = jnp.moveaxis(x.at.reshape(rows, -1, q_block), 1, 0)

    def one(at: jax.Array) -> jax.Array:
        allowed = (x.first[:, None] <= at[..., None]) & (at[..., None] <= x.last[:, None])
        return jnp.any(allowed.reshape(rows, q_block, keys // k_block, k_block), axis=(1, 3))

    return jnp.moveaxis(jax.lax.map(one, at), 0, 1)  # one block of queries at a time: memory [q_block, T]


def walk(active: jax.Array) -> Steps:
    """The walk over a block map [B, majors, minors]."""
    rows, majors, minors = active.shape
    idle = ~jnp.any(active, axis=-1, keepdims=True)
    active = active | (idle & (jnp.arange(minors) == 0))
    flat = active.reshape(-1)
    (found,) = jnp.nonzero(flat, size=flat.size, fill_value=-1)
    found = found.astype(jnp.int32)
    major = jnp.where(found < 0, -1, found // minors)
    minor = found % minors + jnp.maximum(major, 0) // majors * minors
    changes = major[1:] != major[:-1]
    one = jnp.ones((1,), bool)
    edge = jnp.concatenate([one, changes]) + 2 * jnp.concatenate([changes, one])
    # Entries past the count are never visited; block 0 keeps them harmless.
    count = jnp.sum(flat, dtype=jnp.int32)[None]
    return Steps(jnp.maximum(major, 0), jnp.where(found < 0, 0, minor), edge.astype(jnp.int32), count)
