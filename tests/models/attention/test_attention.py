"""Attention against a loop in double precision, one backend against the other, and the corners that padding makes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.batch import CAUSAL, FULL, NOISE, TokenInfo, may_attend
from sgt_jax.models.attention import BACKENDS as ALL
from sgt_jax.models.attention import packed_attention as attention
from sgt_jax.models.attention import segment_info

B, S, H, KV, D = 2, 23, 6, 2, 8
# test_skipping.py has the kernels, and more on blocks.
BACKENDS = [name for name in ALL if not name.startswith("tpu")]
# One program instead of a program an operation.
packed_attention = jax.jit(attention, static_argnames=("backend", "block"))


def random_info(seed: int, shape: tuple[int, int] = (B, S)) -> TokenInfo:
    """Shuffled slots of three samples with splits of all modes, some padding."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(shape[0]):
        sample, split, order, mode = [], [], [], []
        for number in (1, 2, 3):
            place = 0
            for part, kind in enumerate((FULL, CAUSAL, NOISE)[:number]):
                for _ in range(3):
                    sample.append(number), split.append(part), order.append(place), mode.append(kind)
                    place += 1
        facts = np.zeros((4, shape[1]), np.int32)
        facts[:, : len(sample)] = [sample, split, order, mode]
        rows.append(facts[:, rng.permutation(shape[1])])
    sample, split, order, mode = np.stack(rows, axis=1)
    return TokenInfo(sample, split, order, order, mode)


def random_qkv(seed: int = 0, keys: int = S, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    shapes = (B, S, H, D), (B, keys, KV, D), (B, keys, KV, D)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def loop(q, k, v, mask):
    """Attention one query, one head at a time, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros_like(q)
    for b, s, h in np.ndindex(q.shape[:3]):
        allowed = np.flatnonzero(mask[b, s])
        if allowed.size:
            g = h // (q.shape[2] // k.shape[2])
            scores = k[b, allowed, g] @ q[b, s, h] / np.sqrt(q.shape[-1])
            weights = np.exp(scores - scores.max())
            out[b, s, h] = weights @ v[b, allowed, g] / weights.sum()
    return out


@pytest.mark.parametrize("backend", BACKENDS)
def test_agrees_with_a_loop(backend):
    info = random_info(0)
    q, k, v = random_qkv()
    mask = may_attend(info, info)
    assert not mask.all() and mask.any()
    got = packed_attention(q, k, v, info, info, backend=backend, block=5)
    np.testing.assert_allclose(got, loop(q, k, v, mask), atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_of_a_cache_come_first(backend):
    old, new = random_info(1, (B, 40)), random_info(2)
    q, k, v = random_qkv(keys=40 + S)
    keys = TokenInfo(*(np.concatenate(pair, axis=1) for pair in zip(old, new)))
    got = packed_attention(q, k, v, new, keys, backend=backend, block=8)
    np.testing.assert_allclose(got, loop(q, k, v, may_attend(new, keys)), atol=2e-6)


@pytest.mark.parametrize("block", [1, 7, S, 100])
def test_blockwise_equals_dense_in_value_and_gradient(block):
    info = random_info(3)
    qkv = random_qkv(1)
    weight = np.random.default_rng(9).standard_normal((B, S, H, D), np.float32)

    @functools.partial(jax.jit, static_argnums=1)
    @jax.value_and_grad
    def loss(qkv, backend):
        return jnp.sum(packed_attention(*qkv, info, info, backend=backend, block=block) * weight)

    dense, dense_grads = loss(qkv, "xla")
    blocks, block_grads = loss(qkv, "blockwise")
    np.testing.assert_allclose(blocks, dense, rtol=1e-5)
    for a, b in zip(block_grads, dense_grads):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_gives_zeros_and_takes_no_part(backend):
    info = random_info(4)
    pad = info.sample == 0
    assert pad.any()
    qkv = random_qkv(2)

    def total(qkv):
        return jnp.sum(packed_attention(*qkv, info, info, backend=backend, block=6) ** 2)

    out = packed_attention(*qkv, info, info, backend=backend, block=6)
    assert (np.asarray(out)[pad] == 0).all()
    for gradient in jax.jit(jax.grad(total))(qkv):
        assert np.isfinite(gradient).all() and (np.asarray(gradient)[pad] == 0).all()
    # Whatever padding holds, nobody sees it.
    other = tuple(np.where(pad[..., None, None], np.float32(1e4), x) for x in qkv)
    np.testing.assert_array_equal(packed_attention(*other, info, info, backend=backend, block=6), out)


def test_order_in_memory_does_not_matter():
    info, (q, k, v) = random_info(5), random_qkv(3)
    shuffle = np.random.default_rng(0).permutation(S)
    moved = TokenInfo(*(x[:, shuffle] for x in info))
    got = packed_attention(q[:, shuffle], k[:, shuffle], v[:, shuffle], moved, moved)
    np.testing.assert_allclose(got, packed_attention(q, k, v, info, info)[:, shuffle], atol=1e-6)


def test_segments_see_themselves_only():
    sample = jnp.asarray([[1, 1, 1, 1, 2, 2, 0, 0]])
    image = jnp.asarray([[1, 1, 2, 2, 2, 2, 0, 0]])
    info = segment_info(sample, image)
    same = (sample[0][:, None] == sample[0]) & (image[0][:, None] == image[0]) & (sample[0] > 0)
    np.testing.assert_array_equal(may_attend(info, info)[0], same)


def test_scores_stay_float32_for_bfloat16_inputs():
    """Scores of 256 and 257 (before scaling): rounded to bfloat16 they would be equal."""
    info = TokenInfo(*(jnp.asarray([[x, x]]) for x in (1, 0, 0, 0, FULL)))
    q = jnp.ones((1, 2, 1, 2), jnp.bfloat16)
    k = jnp.asarray([[256, 0], [256, 1]], jnp.bfloat16).reshape(1, 2, 1, 2)
    v = jnp.asarray([[0, 0], [1, 1]], jnp.bfloat16).reshape(1, 2, 1, 2)
    out = packed_attention(q, k, v, info, info)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(out, np.float32), 1 / (1 + np.exp(-(0.5**0.5))), atol=3e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_queries(backend):
    info = random_info(6)
    none = TokenInfo(*(x[:, :0] for x in info))
    q, k, v = random_qkv()
    assert packed_attention(q[:, :0], k, v, none, info, backend=backend).shape == (B, 0, H, D)


def test_unknown_backend_is_named():
    info = random_info(0)
    with pytest.raises(ValueError, match="attention 'fast' does not exist; choose one of auto, xla"):
        packed_attention(*random_qkv(), info, info, backend="fast")
