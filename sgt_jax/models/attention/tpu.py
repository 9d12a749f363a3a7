"""Flash attention over the allowed blocks only, as three Pallas TPU kernels: forward, gradient of q, gradient of k and v.

A kernel walks a list of (query block, key block) pairs that was made on the device from TokenInfo (`blocks.py`), so its
time follows the mask of the batch while all shapes stay static, and it tests the mask inside a block with two integer
comparisons, shared by all query heads of a key-value head. Nothing of size [S, T] exists in memory.

Layout: rows end to end, heads side by side: q [N, H*D], k and v [M, K*D], with D padded to whole vector lanes, so that
the query heads of key-value head g are one block of columns. r = H/K query heads per key-value head.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sgt_jax.batch import TokenInfo
from sgt_jax.errors import ConfigError
from sgt_jax.models.attention.blocks import Intervals, Steps, block_map, intervals, padded, walk

_LANES = 128
# A forbidden score lies below the start of every running maximum, so its weight is exactly zero even in an empty row.
_MASKED, _LOWEST = -1e30, -1e20
_VMEM_LIMIT = 64 * 2**20
_NN, _NT = (((1,), (0,)), ((), ())), (((1,), (1,)), ((), ()))  # a @ b, a @ b.T


class Plan(NamedTuple):
    """What the kernels need to know of the mask; made once per step and used by all layers.

    Attributes:
      intervals: padded to whole blocks.
      forward, backward: walks over the allowed blocks, by blocks of queries and by blocks of keys.
    """

    intervals: Intervals
    forward: Steps
    backward: Steps


class _Call(NamedTuple):
    """Static facts of a call; `size` is the head size in memory."""

    q_block: int
    k_block: int
    kv_heads: int
    group: int
    size: int
    scale: float
    precision: Any
    interpret: bool


def _block(length: int, block: int) -> int:
    """The block, or less for a short lane; whole vector lanes unless the block itself is smaller (tests)."""
    unit = min(_LANES, block)
    return min(block, -(-max(length, 1) // unit) * unit)


def make_plan(query: TokenInfo, key: TokenInfo, block: int) -> Plan:
    """The plan of a batch; `block` is the largest block of queries and of keys."""
    q_block, k_block = _block(query.sample.shape[1], block), _block(key.sample.shape[1], block)
    facts = padded(intervals(query, key), q_block, k_block)
    active = block_map(facts, q_block, k_block)
    return Plan(facts, walk(active), walk(jnp.swapaxes(active, 1, 2)))


def attend(
    q_BSHD: jax.Array, k_BTKD: jax.Array, v_BTKD: jax.Array, plan: Plan, block: int, precision: Any,
    interpret: bool = False,
) -> jax.Array:  # fmt: skip
    """Attention under a plan that `make_plan` made with the same block -> [B, S, H, D]."""
    b, s, h, d = q_BSHD.shape
    t, kv_heads = k_BTKD.shape[1:3]
    if not q_BSHD.size:
        return q_BSHD
    if not interpret and block % _LANES:
        raise ConfigError(f"attention_block={block} must be a multiple of {_LANES} for the TPU kernel")
    q_block, k_block = _block(s, block), _block(t, block)
    size = d if interpret else -(-d // _LANES) * _LANES
    call = _Call(q_block, k_block, kv_heads, h // kv_heads, size, d**-0.5, precision, interpret)

    def flat(x: jax.Array, to: int) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, to - x.shape[1]), (0, 0), (0, size - d)))
        return x.reshape(b * to, x.shape[2] * size)

    slots, keys = plan.intervals.at.shape[1], plan.intervals.first.shape[1]
    out = _flash(flat(q_BSHD, slots), flat(k_BTKD, keys), flat(v_BTKD, keys), plan, call)
    return out.reshape(b, slots, h, size)[:, :s, :, :d]


# -- The function and its gradient -------------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _flash(q: jax.Array, k: jax.Array, v: jax.Array, plan: Plan, call: _Call) -> jax.Array:
    return _forward(q, k, v, plan, call)[0]


def _flash_forward(q: jax.Array, k: jax.Array, v: jax.Array, plan: Plan, call: _Call) -> tuple[jax.Array, tuple]:
    out, lse = _forward(q, k, v, plan, call)
    return out, (q, k, v, plan, out, lse)


def _flash_backward(call: _Call, saved: tuple, d_out: jax.Array) -> tuple:
    q, k, v, plan, out, lse = saved
    heads = (out.shape[0], call.kv_heads, call.group, call.size)
    # delta = sum(d_out * out), [K, N, r] like the log-sum-exp.
    delta = jnp.einsum(
        "nkrd,nkrd->knr", d_out.reshape(heads), out.reshape(heads), preferred_element_type=jnp.float32,
        precision=call.precision,
    )  # fmt: skip
    dq = _gradient_q(q, k, v, d_out, lse, delta, plan, call)
    dk, dv = _gradient_kv(q, k, v, d_out, lse, delta, plan, call)
    return dq, dk, dv, None


_flash.defvjp(_flash_forward, _flash_backward)


def _run(
    kernel: Callable, name: str, call: _Call, steps: Steps, inputs: list, outputs: list, scratch: list
) -> list[jax.Array]:
    """One kernel over the grid (key-value heads, steps of the walk).

    Args:
      kernel: gets the refs of the walk, then of inputs, outputs, scratch.
      inputs: (array, block shape, index map); outputs: (shape with dtype, block shape, index map). An index map takes
        (key-value head, major block, minor block).
    """

    def spec(shape: tuple, index: Callable) -> pl.BlockSpec:
        return pl.BlockSpec(shape, lambda g, i, major, minor, edge: index(g, major[i], minor[i]))

    return pl.pallas_call(
        functools.partial(kernel, call=call),
        name=name,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(call.kv_heads, steps.count[0]),
            in_specs=[spec(shape, index) for _, shape, index in inputs],
            out_specs=[spec(shape, index) for _, shape, index in outputs],
            scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
        ),
        out_shape=[shape for shape, _, _ in outputs],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=_VMEM_LIMIT
        ),
        interpret=call.interpret,
    )(steps.major, steps.minor, steps.edge, *(x for x, _, _ in inputs))


def _at_edge(edge_ref: Any, bit: int) -> jax.Array:
    return (edge_ref[pl.program_id(1)] & bit) != 0


def _dot(a: jax.Array, b: jax.Array, dimensions: tuple, call: _Call) -> jax.Array:
    return jax.lax.dot_general(a, b, dimensions, precision=call.precision, preferred_element_type=jnp.float32)


def _columns(call: _Call) -> list[slice]:
    """The columns of each query head of a group."""
    return [slice(h * call.size, (h + 1) * call.size) for h in range(call.group)]


# Index maps. By queries, the major block is one of queries; by keys, one of keys.
def _major(g: Any, major: Any, minor: Any) -> tuple:
    return major, g


def _minor(g: Any, major: Any, minor: Any) -> tuple:
    return minor, g


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, plan: Plan, call: _Call) -> tuple[jax.Array, jax.Array]:
    """-> out [N, H*D], log-sum-exp float32 [K, N, r]."""
    q_block, k_block, wide = call.q_block, call.k_block, call.group * call.size
    at, first, last = plan.intervals
    out, lse = _run(
        _forward_kernel, "sgt_attention_forward", call, plan.forward,
        inputs=[
            (q, (q_block, wide), _major),
            (k, (k_block, call.size), _minor),
            (v, (k_block, call.size), _minor),
            (at.reshape(-1, 1), (q_block, 1), lambda g, major, minor: (major, 0)),
            (first.reshape(1, -1), (1, k_block), lambda g, major, minor: (0, minor)),
            (last.reshape(1, -1), (1, k_block), lambda g, major, minor: (0, minor)),
        ],
        outputs=[
            (jax.ShapeDtypeStruct(q.shape, q.dtype), (q_block, wide), _major),
            (
                jax.ShapeDtypeStruct((call.kv_heads, q.shape[0], call.group), jnp.float32),
                (None, q_block, call.group),
                lambda g, major, minor: (g, major, 0),
            ),
        ],
        scratch=[(q_block, wide), (call.group, q_block, 1), (call.group, q_block, 1)],
    )  # fmt: skip
    return out, lse


def _forward_kernel(
    major_ref, minor_ref, edge_ref, q_ref, k_ref, v_ref, at_ref, first_ref, last_ref, out_ref, lse_ref,
    sum_ref, top_ref, weight_ref, *, call: _Call,
) -> None:  # fmt: skip
    """Online softmax: weighted sum, running maximum, and sum of weights, per query head of the group."""

    @pl.when(_at_edge(edge_ref, 1))
    def _start() -> None:
        sum_ref[...] = jnp.zeros_like(sum_ref)
        top_ref[...] = jnp.full_like(top_ref, _LOWEST)
        weight_ref[...] = jnp.zeros_like(weight_ref)

    at, k, v = at_ref[...], k_ref[...], v_ref[...]
    allowed = (first_ref[...] <= at) & (at <= last_ref[...])
    for h, columns in enumerate(_columns(call)):
        scores = jnp.where(allowed, _dot(q_ref[:, columns], k, _NT, call) * call.scale, _MASKED)
        top = jnp.maximum(top_ref[h], jnp.max(scores, axis=1, keepdims=True))
        weights, shrink = jnp.exp(scores - top), jnp.exp(top_ref[h] - top)
        top_ref[h] = top
        weight_ref[h] = shrink * weight_ref[h] + jnp.sum(weights, axis=1, keepdims=True)
        sum_ref[:, columns] = shrink * sum_ref[:, columns] + _dot(weights.astype(v.dtype), v, _NN, call)

    @pl.when(_at_edge(edge_ref, 2))
    def _finish() -> None:
        lse = []
        for h, columns in enumerate(_columns(call)):
            empty = weight_ref[h] == 0
            weight = jnp.where(empty, 1.0, weight_ref[h])
            out_ref[:, columns] = (sum_ref[:, columns] / weight).astype(out_ref.dtype)
            lse.append(jnp.where(empty, 0.0, top_ref[h] + jnp.log(weight)))
        lse_ref[...] = jnp.concatenate(lse, axis=1)


def _gradient_q(
    q: jax.Array, k: jax.Array, v: jax.Array, d_out: jax.Array, lse: jax.Array, delta: jax.Array, plan: Plan,
    call: _Call,
) -> jax.Array:  # fmt: skip
    q_block, k_block, wide = call.q_block, call.k_block, call.group * call.size
    at, first, last = plan.intervals
    per_head = (None, q_block, call.group), lambda g, major, minor: (g, major, 0)
    (dq,) = _run(
        _gradient_q_kernel, "sgt_attention_gradient_q", call, plan.forward,
        inputs=[
            (q, (q_block, wide), _major),
            (k, (k_block, call.size), _minor),
            (v, (k_block, call.size), _minor),
            (d_out, (q_block, wide), _major),
            (lse, *per_head),
            (delta, *per_head),
            (at.reshape(-1, 1), (q_block, 1), lambda g, major, minor: (major, 0)),
            (first.reshape(1, -1), (1, k_block), lambda g, major, minor: (0, minor)),
            (last.reshape(1, -1), (1, k_block), lambda g, major, minor: (0, minor)),
        ],
        outputs=[(jax.ShapeDtypeStruct(q.shape, q.dtype), (q_block, wide), _major)],
        scratch=[(q_block, wide)],
    )  # fmt: skip
    return dq


def _gradient_q_kernel(
    major_ref, minor_ref, edge_ref, q_ref, k_ref, v_ref, d_out_ref, lse_ref, delta_ref, at_ref, first_ref, last_ref,
    dq_ref, sum_ref, *, call: _Call,
) -> None:  # fmt: skip
    @pl.when(_at_edge(edge_ref, 1))
    def _start() -> None:
        sum_ref[...] = jnp.zeros_like(sum_ref)

    at, k, v, lse, delta = at_ref[...], k_ref[...], v_ref[...], lse_ref[...], delta_ref[...]
    allowed = (first_ref[...] <= at) & (at <= last_ref[...])
    for h, columns in enumerate(_columns(call)):
        scores = jnp.where(allowed, _dot(q_ref[:, columns], k, _NT, call) * call.scale, _MASKED)
        weights = jnp.exp(scores - lse[:, h : h + 1])
        d_scores = weights * (_dot(d_out_ref[:, columns], v, _NT, call) - delta[:, h : h + 1])
        sum_ref[:, columns] += _dot(d_scores.astype(k.dtype), k, _NN, call)

    @pl.when(_at_edge(edge_ref, 2))
    def _finish() -> None:
        dq_ref[...] = (sum_ref[...] * call.scale).astype(dq_ref.dtype)


def _gradient_kv(
    q: jax.Array, k: jax.Array, v: jax.Array, d_out: jax.Array, lse: jax.Array, delta: jax.Array, plan: Plan,
    call: _Call,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    q_block, k_block, wide = call.q_block, call.k_block, call.group * call.size
    at, first, last = plan.intervals
    # Scores stand on their side here, [keys, queries], so facts of queries run along the lanes.
    per_head = (None, call.group, q_block), lambda g, major, minor: (g, 0, minor)
    like_k = (jax.ShapeDtypeStruct(k.shape, k.dtype), (k_block, call.size), _major)
    dk, dv = _run(
        _gradient_kv_kernel, "sgt_attention_gradient_kv", call, plan.backward,
        inputs=[
            (q, (q_block, wide), _minor),
            (k, (k_block, call.size), _major),
            (v, (k_block, call.size), _major),
            (d_out, (q_block, wide), _minor),
            (jnp.swapaxes(lse, 1, 2), *per_head),
            (jnp.swapaxes(delta, 1, 2), *per_head),
            (at.reshape(1, -1), (1, q_block), lambda g, major, minor: (0, minor)),
            (first.reshape(-1, 1), (k_block, 1), lambda g, major, minor: (major, 0)),
            (last.reshape(-1, 1), (k_block, 1), lambda g, major, minor: (major, 0)),
        ],
        outputs=[like_k, like_k],
        scratch=[(k_block, call.size), (k_block, call.size)],
    )  # fmt: skip
    return dk, dv


def _gradient_kv_kernel(
    major_ref, minor_ref, edge_ref, q_ref, k_ref, v_ref, d_out_ref, lse_ref, delta_ref, at_ref, first_ref, last_ref,
    dk_ref, dv_ref, dk_sum_ref, dv_sum_ref, *, call: _Call,
) -> None:  # fmt: skip
    @pl.when(_at_edge(edge_ref, 1))
    def _start() -> None:
        dk_sum_ref[...] = jnp.zeros_like(dk_sum_ref)
        dv_sum_ref[...] = jnp.zeros_like(dv_sum_ref)

    at, k, v, lse, delta = at_ref[...], k_ref[...], v_ref[...], lse_ref[...], delta_ref[...]
    allowed = (first_ref[...] <= at) & (at <= last_ref[...])
    for h, columns in enumerate(_columns(call)):
        q, d_out = q_ref[:, columns], d_out_ref[:, columns]
        scores = jnp.where(allowed, _dot(k, q, _NT, call) * call.scale, _MASKED)
        weights = jnp.exp(scores - lse[h : h + 1])
        d_scores = weights * (_dot(v, d_out, _NT, call) - delta[h : h + 1])
        dv_sum_ref[...] += _dot(weights.astype(d_out.dtype), d_out, _NN, call)
        dk_sum_ref[...] += _dot(d_scores.astype(q.dtype), q, _NN, call)

    @pl.when(_at_edge(edge_ref, 2))
    def _finish() -> None:
        dk_ref[...] = (dk_sum_ref[...] * call.scale).astype(dk_ref.dtype)
        dv_ref[...] = dv_sum_ref[...].astype(dv_ref.dtype)
