"""Attention in plain XLA with the whole score matrix at once: the truth that the other backends are tested against."""

from typing import Any

import jax
import jax.numpy as jnp

from sgt_jax.batch import TokenInfo, may_attend

# Finite, so that a row without any allowed key gives no NaN in the backward pass either.
_MASKED = -1e30


def dense_attention(
    q_BSHD: jax.Array, k_BTKD: jax.Array, v_BTKD: jax.Array, mask_BST: jax.Array | None, precision: Any = None
) -> jax.Array:
    """Attention with a dense boolean mask (None: everything is allowed) -> [B, S, H, D] in q's dtype."""
    return heads_first(q_BSHD, k_BTKD.transpose(0, 2, 1, 3), v_BTKD.transpose(0, 2, 1, 3), mask_BST, precision)


def heads_first(
    q_BSHD: jax.Array, k: jax.Array, v: jax.Array, mask_BST: jax.Array | None, precision: Any = None
) -> jax.Array:
    """`dense_attention` of keys and values [B, K, T, D], which it reads as they lie."""
    b, s, h, d = q_BSHD.shape
    kv_heads, t = k.shape[1:3]
    kw = dict(precision=precision, preferred_element_type=jnp.float32)
    # Key-value head g serves the query heads g*r .. g*r+r-1. Plain batched matrices: the CPU is slow at anything else.
    q = q_BSHD.reshape(b, s, kv_heads, h // kv_heads, d).transpose(0, 2, 3, 1, 4)
    q = q.reshape(b, kv_heads, h // kv_heads * s, d)
    scores = jnp.einsum("bkqd,bktd->bkqt", q, k, **kw) * d**-0.5
    scores = scores.reshape(b, kv_heads, h // kv_heads, s, t)
    if mask_BST is not None:
        scores = scores + jnp.where(mask_BST, 0.0, _MASKED)[:, None, None]
    # A softmax that divides after the second product. The floor makes all weights zero where nothing is allowed.
    floor = jnp.maximum(jnp.max(scores, axis=-1, keepdims=True, initial=_MASKED), _MASKED / 2)
    weights = jnp.exp(scores - jax.lax.stop_gradient(floor))
    total = jnp.sum(weights, axis=-1)[..., None]
    weights = weights.astype(v.dtype).reshape(b, kv_heads, h // kv_heads * s, t)
    out = jnp.einsum("bkqt,bktd->bkqd", weights, v, **kw).reshape(*total.shape[:-1], d)
    out = out / jnp.where(total > 0, total, 1.0)
    return out.transpose(0, 3, 1, 2, 4).reshape(b, s, h, d).astype(q_BSHD.dtype)


def whole(
    q: jax.Array, k: jax.Array, v: jax.Array, facts: tuple[TokenInfo, TokenInfo], block: int, precision: Any
) -> jax.Array:
    """The whole score matrix at once: right for short rows and for tests."""
    del block
    return dense_attention(q, k, v, may_attend(*facts), precision)
