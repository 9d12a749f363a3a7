"""Blockwise attention beyond its numbers (test_skipping.py): its blocks, its memory, and what recomputation finds of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.batch import CAUSAL, TokenInfo
from sgt_jax.models.attention import attend, blockwise, packed_attention, prepare
from sgt_jax.models.stack import REMAT


def causal(slots: int) -> TokenInfo:
    """One row of one causal sample."""
    order = np.arange(slots, dtype=np.int32)[None]
    same = np.full_like(order, CAUSAL)
    return TokenInfo(same + 1, same, order, order, same)


@pytest.mark.parametrize("slots, largest, block", [
    (16384, 512, 512), (16384, 128, 128), (4096, 512, 256), (1105, 512, 64), (216, 512, 56), (23, 512, 24), (23, 5, 5),
    (0, 512, 64),
])  # fmt: skip
def test_a_short_lane_has_small_blocks(slots, largest, block):
    assert blockwise.block_size(slots, largest) == block


def test_memory_at_16k_slots_and_28_heads():
    """Forward and backward need less than 1 GiB beside arguments and results; all scores would be 30 GiB."""
    slots, heads, kv_heads, size = 16384, 28, 4, 128
    shapes = [jax.ShapeDtypeStruct((1, slots, n, size), jnp.bfloat16) for n in (heads, kv_heads, kv_heads)]
    facts = TokenInfo(*(jax.ShapeDtypeStruct((1, slots), jnp.int32) for _ in TokenInfo._fields))

    def loss(q, k, v, info):
        return jnp.sum(packed_attention(q, k, v, info, info, backend="blockwise").astype(jnp.float32))

    memory = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*shapes, facts).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2**30


@pytest.mark.parametrize("remat, forwards", [("full", 2), ("dots", 1)])
def test_recomputation_does_not_compute_it_twice_where_results_are_kept(remat, forwards):
    info = causal(40)
    q = jnp.ones((1, 40, 2, 8))

    @functools.partial(jax.checkpoint, policy=REMAT[remat])
    def layer(q):
        plan = prepare(info, info, backend="blockwise", block=8)
        return attend(jnp.sin(q), jnp.sin(q), q, plan, backend="blockwise", block=8)

    program = str(jax.make_jaxpr(jax.grad(lambda q: jnp.sum(jnp.sin(layer(q)))))(q))
    # The running maximum is the forward pass's alone: one loop of it each time that it is computed.
    assert program.count("reduce_max") == forwards


@pytest.mark.parametrize("slots, backend", [(64, "xla"), (200, "blockwise")])
def test_auto_is_dense_for_few_queries_only(slots, backend):
    info = causal(slots)
    assert jax.tree.structure(prepare(info, info, backend="auto")) == jax.tree.structure(
        prepare(info, info, backend=backend)
    )
    q = jnp.ones((1, slots, 1, 8))
    a, b = (packed_attention(q, q, q, info, info, backend=name) for name in ("auto", backend))
    np.testing.assert_array_equal(a, b)
