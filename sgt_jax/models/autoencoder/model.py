"""The FLUX-style variational autoencoder that both model families draw with: pictures <-> latents.

Channels last. Parameters are named like the published tensors (`encoder/down_0/block_0/conv1/kernel`). An encoder
returns *moments*: mean channels first, then log-variance; who samples and scales is the model's business.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sgt_jax.errors import ConfigError
from sgt_jax.models.attention import dense_attention
from sgt_jax.models.layers import weight

# Above this many latent pixels the attention block scans over blocks of queries instead of holding all scores.
_DENSE_PIXELS = 4096


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder; the defaults are FLUX.1's, which BAGEL uses.

    Attributes:
      ch: channels of the finest level; ch_mult: factor per level; num_res_blocks: per level.
      z_channels: latent channels; scale_factor, shift_factor: scaled latent = scale * (z - shift).
      resolution: picture size it was trained at (not used).
      norm_groups: groups of the group norms; they divide the channels of every level.
    """

    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    z_channels: int = 16
    in_channels: int = 3
    out_ch: int = 3
    scale_factor: float = 0.3611
    shift_factor: float = 0.1159
    resolution: int = 256
    norm_groups: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "ch_mult", tuple(self.ch_mult))
        if any(self.ch * m % self.norm_groups for m in self.ch_mult):
            raise ConfigError(
                f"autoencoder channels {self.ch} x {self.ch_mult} must be multiples of {self.norm_groups}"
            )

    @property
    def downsample(self) -> int:
        """Pixels per latent pixel on a side."""
        return 2 ** (len(self.ch_mult) - 1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AutoencoderConfig":
        """From the fields above; files also repeat `downsample`, which follows from the levels.

        Raises:
          ConfigError: an unknown field, or values that do not fit together.
        """
        values = dict(values)
        names = [field.name for field in dataclasses.fields(cls)]
        downsample = values.pop("downsample", None)
        if unknown := sorted(set(values) - set(names)):
            raise ConfigError(f"model.vae has no field {', '.join(unknown)}; it has {', '.join(names)}")
        made = cls(**values)
        if downsample is not None and downsample != made.downsample:
            raise ConfigError(
                f"model.vae.downsample is {downsample}, but {len(made.ch_mult)} levels give {made.downsample}"
            )
        return made


class GroupNorm(nn.Module):
    """Norm over pixels and groups of channels, eps 1e-6, statistics in float32 by the two-pass formula."""

    groups: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, h, w, c = x.shape
        wide = x.astype(jnp.float32).reshape(n, h * w, self.groups, c // self.groups)
        wide = wide - jnp.mean(wide, axis=(1, 3), keepdims=True)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=(1, 3), keepdims=True) + 1e-6)
        scale = weight(self, "scale", nn.initializers.ones, (c,))
        bias = weight(self, "bias", nn.initializers.zeros, (c,))
        return (wide.reshape(n, h, w, c) * scale + bias).astype(self.dtype)


class Conv(nn.Module):
    """A square convolution; `padding` per side ((top, bottom), (left, right)), "same size" by default."""

    features: int
    size: int = 3
    stride: int = 1
    padding: tuple[tuple[int, int], tuple[int, int]] | None = None
    dtype: Any = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # Zeros here; `fresh_parameters` draws all convolutions at once, which compiles in a tenth of the time.
        kernel = weight(self, "kernel", nn.initializers.zeros, (self.size, self.size, x.shape[-1], self.features))
        bias = weight(self, "bias", nn.initializers.zeros, (self.features,))
        same = self.size // 2
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            window_strides=(self.stride, self.stride),
            padding=self.padding or ((same, same), (same, same)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=self.precision,
        )
        return y + bias.astype(self.dtype)


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, norm, SiLU, conv, plus the (projected) input."""

    features: int
    groups: int = 32
    dtype: Any = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kw = dict(dtype=self.dtype, precision=self.precision)
        y = jax.nn.silu(GroupNorm(self.groups, self.dtype, name="norm1")(x))
        y = Conv(self.features, name="conv1", **kw)(y)
        y = jax.nn.silu(GroupNorm(self.groups, self.dtype, name="norm2")(y))
        y = Conv(self.features, name="conv2", **kw)(y)
        if x.shape[-1] != self.features:
            x = Conv(self.features, size=1, name="nin_shortcut", **kw)(x)
        return x + y


class AttentionBlock(nn.Module):
    """One head over all pixels of a picture, with residual."""

    groups: int = 32
    dtype: Any = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, h, w, c = x.shape
        kw = dict(dtype=self.dtype, precision=self.precision)
        y = GroupNorm(self.groups, self.dtype, name="norm")(x)
        q, k, v = (Conv(c, size=1, name=m, **kw)(y).reshape(n, h * w, 1, c) for m in ("q", "k", "v"))
        if h * w <= _DENSE_PIXELS:
            y = dense_attention(q, k, v, None, self.precision)
        else:  # one row of pixels at a time
            rows = jnp.moveaxis(q.reshape(n, h, w, 1, c), 1, 0)
            y = jax.lax.map(jax.checkpoint(lambda row: dense_attention(row, k, v, None, self.precision)), rows)
            y = jnp.moveaxis(y, 0, 1)
        return x + Conv(c, size=1, name="proj_out", **kw)(y.reshape(n, h, w, c))


class Middle(nn.Module):
    """Residual block, attention, residual block at the coarsest level."""

    features: int
    groups: int = 32
    dtype: Any = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kw = dict(groups=self.groups, dtype=self.dtype, precision=self.precision)
        x = ResidualBlock(self.features, name="block_1", **kw)(x)
        x = AttentionBlock(name="attn_1", **kw)(x)
        return ResidualBlock(self.features, name="block_2", **kw)(x)


class Resample(nn.Module):
    """Half the size by a strided convolution, or twice the size by repetition and a convolution."""

    features: int
    up: bool
    dtype: Any = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kw = dict(dtype=self.dtype, precision=self.precision, name="conv")
        if self.up:
            return Conv(self.features, **kw)(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))
        # One zero row at the bottom and one zero column at the right, then no padding.
        return Conv(self.features, stride=2, padding=((0, 1), (0, 1)), **kw)(x)


class Level(nn.Module):
    """The blocks of one resolution, then the step to the next: "down", "up" or None."""

    features: int
    blocks: int
    resample: str | None
    groups: int = 32
    dtype: Any = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kw = dict(dtype=self.dtype, precision=self.precision)
        for b in range(self.blocks):
            x = ResidualBlock(self.features, self.groups, name=f"block_{b}", **kw)(x)
        if self.resample:
            x = Resample(self.features, up=self.resample == "up", name=f"{self.resample}sample", **kw)(x)
        return x


class Encoder(nn.Module):
    """Pictures [N, H, W, 3] -> moments [N, H/d, W/d, 2 * z_channels]."""

    config: AutoencoderConfig
    dtype: Any = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        cfg, kw = self.config, dict(dtype=self.dtype, precision=self.precision)
        last = len(cfg.ch_mult) - 1
        x = Conv(cfg.ch, name="conv_in", **kw)(x)
        for l, mult in enumerate(cfg.ch_mult):
            step = "down" if l < last else None
            x = Level(cfg.ch * mult, cfg.num_res_blocks, step, cfg.norm_groups, name=f"down_{l}", **kw)(x)
        x = Middle(cfg.ch * cfg.ch_mult[-1], cfg.norm_groups, name="mid", **kw)(x)
        x = jax.nn.silu(GroupNorm(cfg.norm_groups, self.dtype, name="norm_out")(x))
        return Conv(2 * cfg.z_channels, name="conv_out", **kw)(x).astype(jnp.float32)


class Decoder(nn.Module):
    """Latents [N, h, w, z_channels], unscaled -> pictures [N, h*d, w*d, 3]."""

    config: AutoencoderConfig
    dtype: Any = jnp.float32
    precision: Any = None

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        cfg, kw = self.config, dict(dtype=self.dtype, precision=self.precision)
        coarsest = cfg.ch * cfg.ch_mult[-1]
        x = Conv(coarsest, name="conv_in", **kw)(z)
        x = Middle(coarsest, cfg.norm_groups, name="mid", **kw)(x)
        for l in reversed(range(len(cfg.ch_mult))):
            step = "up" if l > 0 else None
            x = Level(cfg.ch * cfg.ch_mult[l], cfg.num_res_blocks + 1, step, cfg.norm_groups, name=f"up_{l}", **kw)(x)
        x = jax.nn.silu(GroupNorm(cfg.norm_groups, self.dtype, name="norm_out")(x))
        return Conv(cfg.out_ch, name="conv_out", **kw)(x).astype(jnp.float32)


class Autoencoder(nn.Module):
    """Both halves."""

    config: AutoencoderConfig
    dtype: Any = jnp.float32
    precision: Any = None

    def setup(self) -> None:
        self.encoder = Encoder(self.config, self.dtype, self.precision)
        self.decoder = Decoder(self.config, self.dtype, self.precision)

    def encode(self, pixels: jax.Array) -> jax.Array:
        """Pictures [N, H, W, 3] in [-1, 1] -> moments [N, h, w, 2C]."""
        return self.encoder(pixels)

    def decode(self, z: jax.Array) -> jax.Array:
        """Unscaled latents [N, h, w, C] -> pictures [N, H, W, 3]."""
        return self.decoder(z)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        mean, _ = jnp.split(self.encode(pixels), 2, axis=-1)
        return self.decode(mean)


def fresh_parameters(autoencoder: Autoencoder, key: jax.Array) -> dict[str, Any]:
    """Fresh parameters: convolutions uniform in +-1/sqrt(fan-in), weights and biases alike; norms are the identity."""
    side = autoencoder.config.downsample
    tree = autoencoder.init(key, jnp.zeros((1, side, side, autoencoder.config.in_channels)))["params"]
    total = sum(x.size for x in jax.tree.leaves(tree))
    uniform, start = jax.random.uniform(key, (total,), jnp.float32, -1.0, 1.0), 0

    def fill(node: Any) -> Any:
        nonlocal start
        if "kernel" not in node:
            return {name: fill(child) if isinstance(child, dict) else child for name, child in node.items()}
        fan_in = node["kernel"].size // node["kernel"].shape[-1]
        out = {}
        for name in ("kernel", "bias"):
            x = node[name]
            out[name] = uniform[start : start + x.size].reshape(x.shape) * fan_in**-0.5
            start += x.size
        return out

    return fill(tree)


def to_unit_range(pixels: jax.Array) -> jax.Array:
    """uint8 pixels -> float32 in [-1, 1]; float pixels pass."""
    return pixels.astype(jnp.float32) / 127.5 - 1 if pixels.dtype == jnp.uint8 else pixels


def to_bytes(pictures: jax.Array) -> jax.Array:
    """[-1, 1] floats -> uint8, rounded (the reference truncates)."""
    return jnp.round(jnp.clip(pictures / 2 + 0.5, 0, 1) * 255).astype(jnp.uint8)
