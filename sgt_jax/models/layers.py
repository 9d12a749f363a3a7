"""Small pieces that several models share: linear layers, norms, RoPE, time features, position tables.

Parameters are float32; `dtype` is the dtype of matmul inputs and activations. Statistics, angles, time features and
tables are float32 whatever `dtype` is.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from sgt_jax.models import int8

Initializer = Callable[..., jax.Array]


def uniform_fan_in(
    key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, fan_in: int | None = None
) -> jax.Array:
    """Uniform in +-1/sqrt(fan_in); a kernel's fan-in is the product of all its dimensions but the last."""
    fan_in = fan_in or int(np.prod(shape[:-1]))
    return jax.random.uniform(key, shape, dtype, -1.0, 1.0) * fan_in**-0.5


def normal(key: jax.Array, shape: Sequence[int], lead: int = 0) -> jax.Array:
    """The numbers of `jax.random.normal(key, shape)`, drawn with all axes after the first `lead` as one.

    XLA's CPU compiler takes up to a second and a half over a draw of five axes, and a fifth of that over a flat one
    (docs/performance.md). In a batch the first axis, of rows, stays apart: a mesh cuts it up.
    """
    flat = (*shape[:lead], math.prod(shape[lead:]))
    return jax.random.normal(key, flat).reshape(shape)


def weight(module: nn.Module, name: str, init: Initializer, shape: tuple[int, ...]) -> jax.Array:
    """The parameter `name` of a module, drawn by `init` where it is not there yet.

    As `module.param`, which traces `init` again for the shape whenever the parameter is used (docs/performance.md).

    Raises:
      ScopeParamShapeError: the parameter that is there has another shape.
    """
    if not module.has_variable("params", name):
        return module.param(name, init, shape)
    value = module.get_variable("params", name)
    if value.shape != shape:
        raise ScopeParamShapeError(name, module.scope.path_text, value.shape, shape)
    return value


def _product(x: jax.Array, kernel: jax.Array, precision: Any, out_dtype: Any) -> jax.Array:
    return jnp.einsum("...i,io->...o", x, kernel.astype(x.dtype), precision=precision, preferred_element_type=out_dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def product(x: jax.Array, kernel: jax.Array, precision: Any, out_dtype: Any) -> jax.Array:
    """x [..., in] @ kernel [in, out], computed from inputs in x's dtype.

    The kernel's gradient leaves its matmul in the kernel's own dtype, float32, and is summed over devices in it: left to
    itself it would be rounded to x's dtype first, and so would every step of that sum.
    """
    return _product(x, kernel, precision, out_dtype)


def _forward(x: Any, kernel: Any, precision: Any, out_dtype: Any) -> tuple[jax.Array, tuple]:
    # A frozen kernel needs no x in the backward pass, and costs no product there.
    saved = (x.value if kernel.perturbed else None, kernel.value if x.perturbed else None)
    return _product(x.value, kernel.value, precision, out_dtype), (saved, jnp.zeros((), x.value.dtype))


def _backward(precision: Any, out_dtype: Any, residuals: tuple, dy: Any) -> tuple[jax.Array | None, jax.Array | None]:
    del out_dtype
    (x, kernel), like = residuals
    if isinstance(dy, jax.custom_derivatives.SymbolicZero):
        return None, None
    dy = dy.astype(like.dtype)
    dx = dk = None
    if kernel is not None:
        dx = jnp.einsum("...o,io->...i", dy, kernel.astype(dy.dtype), precision=precision)
    if x is not None:
        dk = jnp.einsum("...i,...o->io", x, dy, precision=precision, preferred_element_type=jnp.float32)
    return dx, dk


product.defvjp(_forward, _backward, symbolic_zeros=True)


class Linear(nn.Module):
    """x @ kernel + bias, kernel [in, out], and what an adapter adds, where one stands beside the kernel (`adapting.py`).

    A frozen kernel may be one of integers, with a scale beside it (`int8.py`).

    Attributes:
      features: outputs.
      kernel_init, bias_init: `bias_init=None` means uniform in +-1/sqrt(inputs).
      dtype: of the matmul inputs; out_dtype: of the result, `dtype` by default.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = uniform_fan_in
    bias_init: Initializer | None = nn.initializers.zeros
    dtype: Any = jnp.float32
    out_dtype: Any = None
    precision: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]
        kernel = weight(self, "kernel", self.kernel_init, (fan_in, self.features))
        out_dtype = self.out_dtype or self.dtype
        if kernel.dtype == jnp.int8:
            scale = self.get_variable("params", int8.SCALE)
            y = int8.product(x.astype(self.dtype), kernel, scale, self.precision, out_dtype)
        else:
            y = product(x.astype(self.dtype), kernel, self.precision, out_dtype)
        if self.use_bias:
            init = self.bias_init or (lambda key, shape: uniform_fan_in(key, shape, fan_in=fan_in))
            # Added in float32, as its gradient is a sum over all slots.
            y = (y + weight(self, "bias", init, (self.features,))).astype(out_dtype)
        if self.has_variable("params", "lora_a"):
            y = (y + self._adapter(x)).astype(out_dtype)
        return y

    def _adapter(self, x: jax.Array) -> jax.Array:
        """scale * dropout(x) A B, float32; dropout only where a training step has laid a key and a rate beside A."""
        a, b, scale = (self.get_variable("params", f"lora_{name}") for name in ("a", "b", "scale"))
        if self.has_variable("params", "lora_key"):
            key, rate = (self.get_variable("params", f"lora_{name}") for name in ("key", "rate"))
            x = jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0)
        inner = product(x.astype(self.dtype), a, self.precision, jnp.float32)
        return scale * product(inner.astype(self.dtype), b, self.precision, jnp.float32)


def rms(x: jax.Array, epsilon: float) -> jax.Array:
    """x over its root mean square along the last axis, in float32."""
    wide = x.astype(jnp.float32)
    return wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + epsilon)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis: statistics in float32, cast back, then times the weight."""

    epsilon: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = weight(self, "scale", nn.initializers.ones, (x.shape[-1],))
        # The product in float32, as the gradient of the weight is a sum over all slots.
        return (rms(x, self.epsilon).astype(self.dtype) * scale).astype(self.dtype)


class LayerNorm(nn.Module):
    """Layer norm over the last axis, computed in float32."""

    epsilon: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = weight(self, "scale", nn.initializers.ones, (x.shape[-1],))
        bias = weight(self, "bias", nn.initializers.zeros, (x.shape[-1],))
        wide = x.astype(jnp.float32)
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + self.epsilon)
        return (wide * scale + bias).astype(self.dtype)


def gelu_tanh(x: jax.Array) -> jax.Array:
    """The tanh approximation of GELU."""
    return jax.nn.gelu(x, approximate=True)


def rope_angles(position: jax.Array, head_size: int, base: float, axes: Sequence[int] | None = None) -> jax.Array:
    """Rotary angles, float32.

    Args:
      position: int [..., S], or [..., S, A] together with `axes`.
      axes: head channels per component of the position (they sum to head_size); None for one-component positions.

    Returns:
      [..., S, head_size // 2]; with `axes` the components' angles one after the other.
    """
    if axes is None:
        position, axes = position[..., None], (head_size,)
    if sum(axes) != head_size or len(axes) != position.shape[-1]:
        raise ValueError(f"rotary axes {tuple(axes)} do not fit head size {head_size}, positions {position.shape}")
    parts = []
    for i, width in enumerate(axes):
        frequencies = base ** -(np.arange(0, width, 2, dtype=np.float64) / width)
        parts.append(position[..., i, None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32))
    return jnp.concatenate(parts, axis=-1)


def rotation(angles_BSF: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of rotary angles: once per step, as every platform computes them slowly.

    In a loop, half of the channels at a time: XLA would otherwise compute them again for every head of every layer, forward
    and backward, wherever they are used. It leaves loops alone, and no axis of a mesh cuts channels up.
    """
    *places, channels = angles_BSF.shape
    size = channels // 2 if channels % 2 == 0 else 1
    parts = jnp.moveaxis(angles_BSF.reshape(*places, channels // size, size), -2, 0)
    found = jax.lax.map(lambda part: (jnp.cos(part), jnp.sin(part)), parts)
    return tuple(jnp.moveaxis(x, 0, -2).reshape(angles_BSF.shape) for x in found)


def apply_rope(x_BSHD: jax.Array, rotation: tuple[jax.Array, jax.Array], pairs: bool = False) -> jax.Array:
    """Rotates channel i with channel i + D/2 ("rotate half"), with `pairs` channel 2i with 2i + 1; float32 inside."""
    cos, sin = (y[:, :, None] for y in rotation)
    if pairs:
        a, b = x_BSHD[..., ::2].astype(jnp.float32), x_BSHD[..., 1::2].astype(jnp.float32)
        turned = jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1)
        return turned.reshape(x_BSHD.shape).astype(x_BSHD.dtype)
    a, b = jnp.split(x_BSHD.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x_BSHD.dtype)


def time_features(t: jax.Array, width: int = 256, scale: float = 1.0) -> jax.Array:
    """t [...] in [0, 1] -> [..., width] float32: cosines first, then sines, of angles times `scale`."""
    half = width // 2
    frequencies = np.exp(-np.log(10000.0) * np.arange(half, dtype=np.float64) / half)
    angles = t[..., None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)
    if scale != 1:
        angles = angles * scale
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def shift_time(t: Any, shift: float) -> Any:
    """Moves times in [0, 1] towards 1 for shift > 1; keeps 0 and 1. NumPy and JAX alike."""
    return shift * t / (1 + (shift - 1) * t)


def grid_table(column_codes: Any, row_codes: Any) -> Any:
    """Codes [g, E/2] of columns and of rows -> table [g*g, E], row r*g + c = [column code c | row code r]."""
    side, half = column_codes.shape
    columns = jnp.broadcast_to(jnp.asarray(column_codes)[None], (side, side, half))
    rows = jnp.broadcast_to(jnp.asarray(row_codes)[:, None], (side, side, half))
    return jnp.concatenate([columns, rows], axis=-1).reshape(side * side, 2 * half)


def sincos_table(side: int, width: int) -> jax.Array:
    """The usual fixed 2-D sine table [side*side, width]; angles in double, entries float32."""
    if width % 4:
        raise ValueError(f"a 2-D sine table needs a width that 4 divides, got {width}")
    quarter = width // 4
    angles = np.arange(side, dtype=np.float64)[:, None] * 10000.0 ** (-np.arange(quarter, dtype=np.float64) / quarter)
    codes = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    return grid_table(codes, codes)


def random_code_table(side: int, width: int, seed: int) -> jax.Array:
    """A table [side*side, width] of unit-normal row and column codes.

    All tokens of a picture share one rotary position, so this table carries all of space; neighbouring rows of a sine
    table on a small grid are almost parallel, random codes are nearly orthogonal.
    """
    codes = np.random.default_rng(seed).standard_normal((2, side, width // 2)).astype(np.float32)
    return grid_table(codes[0], codes[1])


def patchify_latents(z: jax.Array, patch: int) -> jax.Array:
    """[N, h, w, C] -> [N, (h/p)*(w/p), p*p*C]; a token is (row in patch, column in patch, channel), channel fastest."""
    n, h, w, c = z.shape
    z = z.reshape(n, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return z.reshape(n, (h // patch) * (w // patch), patch * patch * c)


def unpatchify_latents(tokens: jax.Array, grid: tuple[int, int], patch: int) -> jax.Array:
    """The inverse: [N, rows*columns, p*p*C], (rows, columns) -> [N, rows*p, columns*p, C]."""
    n, _, width = tokens.shape
    z = tokens.reshape(n, *grid, patch, patch, width // patch**2).transpose(0, 1, 3, 2, 4, 5)
    return z.reshape(n, grid[0] * patch, grid[1] * patch, width // patch**2)
