"""The TPU kernels, run step by step on the CPU, and blockwise attention against plain attention; which blocks are visited."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.batch import CAUSAL, FULL, NOISE, TokenInfo, may_attend
from sgt_jax.models.attention import attend, blocks, blockwise, packed_attention, prepare, segment_info
from sgt_jax.parallel import partitioning

B, S, H, KV, D, BLOCK = 2, 37, 4, 2, 8, 8
SKIPPING = ("tpu_interpret", "blockwise")
# One program instead of a program an operation.
intervals = jax.jit(blocks.intervals)
make_plan = jax.jit(blockwise.make_plan, static_argnums=2)


@functools.partial(jax.jit, static_argnums=1)
def block_map(info: TokenInfo, block: int) -> jax.Array:
    return blocks.block_map(blocks.padded(blocks.intervals(info, info), block, block), block, block)


walk = jax.jit(blocks.walk)


def facts(*rows, slots: int = S) -> TokenInfo:
    """Rows of samples, each a list of (mode, length) splits, laid end to end and padded."""
    out = np.zeros((4, len(rows), slots), np.int32)
    for r, samples in enumerate(rows):
        at = 0
        for number, splits in enumerate(samples, start=1):
            order = 0
            for split, (mode, length) in enumerate(splits):
                out[:3, r, at : at + length] = np.stack(
                    [np.full(length, number), np.full(length, split), order + np.arange(length)]
                )
                out[3, r, at : at + length] = mode
                at, order = at + length, order + length
        assert at <= slots
    sample, split, order, mode = out
    return TokenInfo(sample, split, order, order, mode)


def shuffled(info: TokenInfo, seed: int = 0) -> TokenInfo:
    """The same slots in another order in memory, another one in each row."""
    rng = np.random.default_rng(seed)
    index = np.stack([rng.permutation(info.sample.shape[1]) for _ in info.sample])
    return TokenInfo(*(np.take_along_axis(x, index, axis=1) for x in info))


def random_facts(seed: int, slots: int = S) -> TokenInfo:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(B):
        samples, left = [], slots - int(rng.integers(0, 6))
        while left > 1:
            splits = []
            for _ in range(int(rng.integers(1, 4))):
                length = int(min(left, rng.integers(1, 9)))
                if length:
                    splits.append((int(rng.choice([CAUSAL, FULL, NOISE])), length))
                left -= length
            samples.append(splits)
        rows.append(samples)
    return facts(*rows, slots=slots)


CASES = {
    "random": random_facts(0),
    "random, shuffled": shuffled(random_facts(1)),
    "an empty row": facts([[(CAUSAL, 30)]], []),
    "all padding": facts([], []),
    "one giant sample": facts([[(FULL, 9), (CAUSAL, 11), (NOISE, 17)]], [[(CAUSAL, S)]]),
    "noise in the middle": facts([[(CAUSAL, 5), (NOISE, 12), (FULL, 9), (CAUSAL, 7)]], [[(NOISE, 9), (CAUSAL, 9)]]),
    "noise in the middle, shuffled": shuffled(facts([[(CAUSAL, 5), (NOISE, 12), (FULL, 9)]], [[(NOISE, 9)]])),
    "samples of one slot": facts([[(CAUSAL, 1)]] * 20, [[(NOISE, 1)]] * 37),
}


def random_qkv(seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal((B, S, heads, D), np.float32) for heads in (H, KV, KV))


@jax.jit
def both(qkv, info, weight):
    """Outputs and gradients of the plain and of the kernel's attention; compiled once for all masks."""

    def out(backend):
        def loss(qkv):
            y = packed_attention(*qkv, info, info, backend=backend, block=BLOCK)
            return jnp.sum(y * weight), y

        gradients, y = jax.grad(loss, has_aux=True)(qkv)
        return (y, *gradients)

    return {name: out(name) for name in ("xla", *SKIPPING)}


@pytest.mark.parametrize("case", CASES)
def test_equals_plain_attention_in_value_and_gradient(case):
    weight = np.random.default_rng(9).standard_normal((B, S, H, D), np.float32)
    found = both(random_qkv(1), CASES[case], weight)
    padding = CASES[case].sample == 0
    for backend in SKIPPING:
        for name, a, b in zip(("out", "dq", "dk", "dv"), found["xla"], found[backend]):
            # Sums of a few dozen float32 products, in another order.
            np.testing.assert_allclose(b, a, atol=3e-6, rtol=1e-5, err_msg=f"{backend} {name}")
            assert (np.asarray(b)[padding] == 0).all()


@pytest.mark.parametrize("case", CASES)
def test_intervals_are_the_mask_rule(case):
    info = CASES[case]
    x = jax.device_get(intervals(info, info))
    allowed = (x.first[:, None] <= x.at[..., None]) & (x.at[..., None] <= x.last[:, None])
    np.testing.assert_array_equal(allowed, may_attend(info, info))


@pytest.mark.parametrize("case", CASES)
def test_exactly_the_blocks_that_hold_an_allowed_pair_are_visited(case):
    info = CASES[case]
    more = -S % BLOCK
    mask = np.pad(may_attend(info, info), ((0, 0), (0, more), (0, more)))
    n = (S + more) // BLOCK
    holding = mask.reshape(B, n, BLOCK, n, BLOCK).any(axis=(2, 4))
    np.testing.assert_array_equal(block_map(info, BLOCK), holding)
    steps = jax.device_get(walk(holding))
    count = int(steps.count[0])
    visited = list(zip(np.asarray(steps.major)[:count], np.asarray(steps.minor)[:count]))
    wanted = {(r * n + i, r * n + j) for r, i, j in np.argwhere(holding)}
    idle = np.count_nonzero(~holding.any(axis=2))  # visited once, so that the result is written
    assert wanted <= set(visited) and len(visited) == len(wanted) + idle
    edges = np.asarray(steps.edge)[:count]
    assert np.count_nonzero(edges & 1) == np.count_nonzero(edges & 2) == B * n
    assert count <= 1.3 * max(len(wanted), 1) + idle
    # Blockwise attention: exactly these, in any order.
    plan = jax.device_get(make_plan(info, info, BLOCK))
    np.testing.assert_array_equal(plan.count, holding.sum(axis=2))
    for r, i in np.ndindex(B, n):
        assert set(np.asarray(plan.order)[r, i, : plan.count[r, i]]) == set(np.flatnonzero(holding[r, i]))


def test_a_typical_pack_visits_few_blocks():
    """Five samples of a photo, an instruction and a painting, und and gen lanes apart, as in a 16k pack (scaled)."""
    samples = [[(FULL, 26), (CAUSAL, 4), (NOISE, 220)] for _ in range(5)]
    info = facts(samples, slots=1280)
    lane = np.argsort((info.mode[0] == NOISE) * 2 + (info.sample[0] == 0) * 4, kind="stable")
    info = TokenInfo(*(x[:, lane] for x in info))
    active = np.asarray(block_map(info, 32))
    allowed = int(may_attend(info, info).sum())
    assert active.sum() * 32 * 32 <= 1.5 * allowed  # blocks at borders of samples are half empty
    assert active.sum() <= 0.25 * active.size


def test_keys_of_a_cache_and_other_head_counts():
    """Queries are fewer than keys, one key-value head per query head of size 72 as in the ViT; bfloat16 beside it."""
    queries, heads = 12, 2
    old, new = random_facts(3, 30), random_facts(4, queries)
    new = new._replace(split=new.split + 10, order=new.order + 40)
    keys = TokenInfo(*(np.concatenate(pair, axis=1) for pair in zip(old, new)))
    rng = np.random.default_rng(5)
    q, k, v = (
        rng.standard_normal((B, slots, heads, 72), np.float32) for slots in (queries, 30 + queries, 30 + queries)
    )

    @jax.jit
    def kernel(q, k, v):
        return packed_attention(q, k, v, new, keys, backend="tpu_interpret", block=16)

    plain = jax.jit(packed_attention)(q, k, v, new, keys)
    np.testing.assert_allclose(kernel(q, k, v), plain, atol=3e-6)
    rounded = kernel(*(x.astype(jnp.bfloat16) for x in (q, k, v)))
    assert rounded.dtype == jnp.bfloat16
    # Inputs, weights and result carry 8 bits each; entries are about 1.
    np.testing.assert_allclose(np.asarray(rounded, np.float32), plain, atol=4e-2)


def test_pictures_see_themselves():
    sample = np.asarray([[1] * 10 + [2] * 20 + [0] * 7] * B)
    image = np.asarray([[1] * 4 + [2] * 6 + [3] * 20 + [0] * 7] * B)
    info = TokenInfo(*(np.asarray(x, np.int32) for x in segment_info(sample, image)))
    found = both(random_qkv(3), info, np.ones((B, S, H, D), np.float32))
    for backend in SKIPPING:
        np.testing.assert_allclose(found[backend][0], found["xla"][0], atol=3e-6)


@pytest.mark.parametrize("shape", [{"fsdp": 2, "tensor": 2}, {"data": 2, "context": 2}])
def test_split_over_a_mesh(shape):
    """Rows, heads and slots spread over devices: the same numbers, gradients too."""
    info = TokenInfo(*(np.pad(x, ((0, 0), (0, 3))) for x in CASES["random, shuffled"]))  # 40 slots: context divides
    qkv = tuple(np.pad(x, ((0, 0), (0, 3), (0, 0), (0, 0))) for x in random_qkv(4))

    def loss(qkv, backend):
        mask = prepare(info, info, backend=backend, block=BLOCK)
        return jnp.sum(jnp.sin(attend(*qkv, mask, backend=backend, block=BLOCK)))

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    plain = jax.device_get(gradient(qkv, "xla"))
    with jax.set_mesh(partitioning.make_mesh(shape, jax.devices()[:4])):
        for backend in SKIPPING:
            split = gradient(qkv, backend)
            for a, b in zip(plain, split):
                np.testing.assert_allclose(b, a, atol=3e-6, err_msg=backend)


def test_rows_that_the_mesh_does_not_divide():
    """A single row that is evaluated, an odd number of slots, one key-value head: every device computes the whole."""
    info = TokenInfo(*(x[:1] for x in CASES["random"]))
    q, k, v = (x[:1] for x in random_qkv(6))
    k, v = k[:, :, :1], v[:, :, :1]
    plain = jax.device_get(jax.jit(packed_attention)(q, k, v, info, info))
    with jax.set_mesh(partitioning.make_mesh({"data": 2, "tensor": 2}, jax.devices()[:4])):
        for backend in SKIPPING:
            alone = jax.jit(functools.partial(packed_attention, backend=backend, block=BLOCK))(q, k, v, info, info)
            np.testing.assert_allclose(alone, plain, atol=3e-6, err_msg=backend)


def test_block_that_the_kernel_refuses():
    info = CASES["random"]
    with pytest.raises(ValueError, match="attention_block=100 must be a multiple of 128"):
        packed_attention(*random_qkv(0), info, info, backend="tpu", block=100)
