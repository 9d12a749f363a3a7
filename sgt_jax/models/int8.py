"""Weights of linear layers as integers of 8 bits with a scale per output: a frozen base in half of bfloat16's memory.

A kernel [in, out] is kept as int8 [in, out] and `kernel_scale` float32 [out]: kernel = int8 * scale. A product makes
floating-point numbers of one block of outputs at a time, forward and backward, so the whole kernel never exists beside the
integers. Stacked layers have leading axes.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from sgt_jax import trees

SCALE = "kernel_scale"  # beside "kernel"
_LARGEST = 127
_ENTRIES = 1 << 22  # of a kernel that are floating-point numbers at a time, about
_LANES = 128  # widths of blocks are multiples of it where the kernel's width is, as matrix units like


def quantised(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A kernel [..., in, out] as (int8 of its shape, float32 scale [..., out]); the largest entry of an output is +-127.

    Rounding is to the nearest, so an entry is off by half a scale at most.
    """
    if kernel.ndim > 2:  # layer by layer: the float32 of a stack would be four times the result
        return jax.lax.map(quantised, kernel)
    wide = kernel.astype(jnp.float32)
    largest = jnp.max(jnp.abs(wide), axis=-2)
    scale = jnp.where(largest > 0, largest / _LARGEST, 1.0)
    return jnp.round(wide / scale).astype(jnp.int8), scale


def floating(params: trees.Tree, dtype: Any) -> trees.Tree:
    """Parameters whose quantised kernels are floating-point numbers of `dtype` again; all others stay as they are."""
    leaves = trees.flat(params)
    for path in [path for path in leaves if path.endswith(f"/{SCALE}")]:
        kernel = path.removesuffix(SCALE) + "kernel"
        leaves[kernel] = _floating(leaves[kernel], leaves.pop(path), dtype)
    return trees.nested(leaves)


@functools.partial(jax.jit, static_argnums=2)
def _floating(kernel: jax.Array, scale: jax.Array, dtype: Any) -> jax.Array:
    return (kernel.astype(jnp.float32) * scale[..., None, :]).astype(dtype)


def block_width(inputs: int, outputs: int) -> int:
    """How many outputs of a kernel are floating-point numbers at a time: a divisor of `outputs`, all of a small kernel."""
    unit = _LANES if outputs % _LANES == 0 else 1
    parts = outputs // unit
    most = max(_ENTRIES // (inputs * unit), 1)
    return unit * max(n for n in range(1, min(most, parts) + 1) if parts % n == 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def product(x: jax.Array, kernel: jax.Array, scale: jax.Array, precision: Any, out_dtype: Any) -> jax.Array:
    """x [..., in] @ (kernel [in, out] * scale [out]), computed from inputs in x's dtype; only x gets a gradient."""
    width = block_width(*kernel.shape)

    def block(start: Any) -> jax.Array:
        part = jax.lax.dynamic_slice_in_dim(kernel, start, width, 1).astype(x.dtype)
        y = jnp.einsum("...i,io->...o", x, part, precision=precision, preferred_element_type=jnp.float32)
        return (y * jax.lax.dynamic_slice_in_dim(scale, start, width)).astype(out_dtype)

    def place(i: jax.Array, y: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(y, block(i * width), i * width, -1)

    blocks = kernel.shape[1] // width
    return block(0) if blocks == 1 else jax.lax.fori_loop(0, blocks, place, _zeros(x, kernel.shape[1], out_dtype))


def _zeros(x: jax.Array, width: int, dtype: Any) -> jax.Array:
    return jnp.zeros((*x.shape[:-1], width), dtype)


def _forward(x: jax.Array, kernel: jax.Array, scale: jax.Array, precision: Any, out_dtype: Any) -> tuple:
    return product(x, kernel, scale, precision, out_dtype), (kernel, scale, jnp.zeros((), x.dtype))


def _backward(precision: Any, out_dtype: Any, residuals: tuple, dy: jax.Array) -> tuple[jax.Array, None, None]:
    del out_dtype
    kernel, scale, like = residuals
    width = block_width(*kernel.shape)
    dy = (dy * scale).astype(like.dtype)

    def block(start: Any) -> jax.Array:
        part = jax.lax.dynamic_slice_in_dim(kernel, start, width, 1).astype(dy.dtype)
        own = jax.lax.dynamic_slice_in_dim(dy, start, width, -1)
        return jnp.einsum("...o,io->...i", own, part, precision=precision, preferred_element_type=jnp.float32)

    blocks = kernel.shape[1] // width
    if blocks == 1:
        dx = block(0)
    else:
        dx = jax.lax.fori_loop(0, blocks, lambda i, dx: dx + block(i * width), _zeros(dy, kernel.shape[0], jnp.float32))
    return dx.astype(like.dtype), None, None


product.defvjp(_forward, _backward)
