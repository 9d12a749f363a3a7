"""The vision tower of Qwen2.5-VL: pictures of many sizes in one lane of patches, most blocks within windows.

Shapes: R rows, P patches, m merge. Patches come window by window with the m*m patches of a cell together, so that windows
are runs of slots and the merger is a reshape.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.batch import TokenInfo
from sgt_jax.data.layouts.omnigen2.pictures import MEAN, STD
from sgt_jax.models.attention import attend, prepare, segment_info
from sgt_jax.models.lanes import flat
from sgt_jax.models.layers import Linear, RMSNorm, apply_rope, product, rope_angles, rotation, weight
from sgt_jax.models.omnigen2.config import OmniGen2Config
from sgt_jax.models.stack import layer_input, run_layers
from sgt_jax.models.transformer import Mlp
from sgt_jax.parallel.partitioning import constrain

_EPSILON = 1e-6  # of all norms; no config file says it
_ROTARY_BASE = 10000.0


def _linear(cfg: OmniGen2Config, features: int, name: str | None = None, bias: bool = True) -> Linear:
    """A linear layer of the tower."""
    return Linear(
        features, use_bias=bias, kernel_init=nn.initializers.normal(cfg.fresh_std(name)), bias_init=nn.initializers.zeros,
        dtype=cfg.compute_dtype, precision=cfg.precision, name=name,
    )  # fmt: skip


class PatchEmbedding(nn.Module):
    """A convolution over whole patches, as one product: [R, P, C*frames*p*p] -> [R, P, width]."""

    config: OmniGen2Config

    @nn.compact
    def __call__(self, patches: jax.Array) -> jax.Array:
        cfg, vision = self.config, self.config.vision
        # The published axes, the outputs last: a file is read into it without a reshape.
        shape = (vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size)
        init = nn.initializers.normal(cfg.text.initializer_range)
        kernel = weight(self, "kernel", init, (*shape, vision.hidden_size))
        x = patches.astype(cfg.compute_dtype)
        return product(x, kernel.reshape(-1, vision.hidden_size), cfg.precision, cfg.compute_dtype)


class VisionLayer(nn.Module):
    """x += attention(norm x); x += mlp(norm x). Called by `run_layers`.

    Attributes:
      keep: put the result out.
    """

    config: OmniGen2Config
    keep: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, per_layer: tuple[jax.Array], rotary: tuple[jax.Array, jax.Array], masks: tuple[Any, Any]
    ) -> tuple[jax.Array, jax.Array | None]:
        cfg, width, heads = self.config, self.config.vision.hidden_size, self.config.vision.num_heads
        x = layer_input(constrain(x, "rows", "slots", None))
        (b, s, _), y = x.shape, flat(x)
        # One program for both kinds of blocks, so that layers can be scanned: they differ in facts alone.
        mask = jax.tree.map(lambda whole, window: jnp.where(per_layer[0], whole, window), *masks)
        qkv = _linear(cfg, 3 * width, "qkv_proj")(RMSNorm(_EPSILON, cfg.compute_dtype, name="norm1")(y))
        q, k, v = (part.reshape(b, s, heads, width // heads) for part in jnp.split(qkv, 3, axis=-1))
        q, k = apply_rope(q, rotary), apply_rope(k, rotary)
        z = attend(q, k, v, mask, backend=cfg.attention, block=cfg.attention_block, precision=cfg.precision)
        y = y + _linear(cfg, width, "o_proj")(flat(z.reshape(b, s, width)))
        mlp = Mlp(width, cfg.vision.intermediate_size, functools.partial(_linear, cfg), name="mlp")
        y = y + mlp(RMSNorm(_EPSILON, cfg.compute_dtype, name="norm2")(y))
        x = y.reshape(x.shape)
        return x, x if self.keep else None


class Merger(nn.Module):
    """[R, P, width] -> [R, P/m^2, width of the text model]: norm, the patches of a cell side by side, two layers."""

    config: OmniGen2Config

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        cfg, vision = self.config, self.config.vision
        x = RMSNorm(_EPSILON, cfg.compute_dtype, name="ln_q")(x)
        wide = vision.hidden_size * vision.spatial_merge_size**2
        x = constrain(x.reshape(x.shape[0], -1, wide), "rows", "slots", None)
        x = jax.nn.gelu(_linear(cfg, wide, "mlp_0")(x), approximate=False)
        return constrain(_linear(cfg, vision.out_hidden_size, "mlp_2")(x), "rows", "slots", None)


class VisionTower(nn.Module):
    """Patch embedding, blocks, merger."""

    config: OmniGen2Config

    @nn.compact
    def __call__(self, lane: Mapping[str, jax.Array], capture: Sequence[str] = ()) -> tuple[jax.Array, dict[str, Any]]:
        """Encodes the vision lane.

        Args:
          lane: "patches" [R, P, C*frames*p*p], normalised, or uint8 [R, P, C*p*p], one frame for all; int [R, P]: "row"
            and "column" of a patch in its picture, "sample" (0 is padding), "image" and "window", numbers within the
            sample or the row.
          capture: names of inner states to return: "patch_embed", "block_3".

        Returns:
          [R, P/m^2, width of the text model], one vector a cell, in the order of the lane; what was captured.
        """
        cfg, vision = self.config, self.config.vision
        aux = {}
        x = PatchEmbedding(cfg, name="patch_embed")(_as_floats(lane["patches"], cfg))
        if "patch_embed" in capture:
            aux["patch_embed"] = x
        masks = tuple(self._mask(lane["sample"], lane[name]) for name in ("image", "window"))
        head = vision.hidden_size // vision.num_heads
        place = jnp.stack([lane["row"], lane["column"]], axis=-1)
        rotary = rotation(rope_angles(place, head, _ROTARY_BASE, (head // 2, head // 2)))
        whole = jnp.asarray(np.isin(np.arange(vision.depth), vision.fullatt_block_indexes))
        keep = [name for name in capture if name.startswith("block_")]
        x, outs = run_layers(
            VisionLayer, {"config": cfg, "keep": bool(keep)}, vision.depth, cfg.scan_layers, cfg.remat,
            x, (whole,), rotary, masks,
        )  # fmt: skip
        aux |= {name: outs[int(name.removeprefix("block_"))] for name in keep}
        return Merger(cfg, name="merger")(x), aux

    def _mask(self, sample: jax.Array, segment: jax.Array) -> Any:
        info: TokenInfo = segment_info(sample, segment)
        return prepare(info, info, backend=self.config.attention, block=self.config.attention_block)


def _as_floats(patches: jax.Array, cfg: OmniGen2Config) -> jax.Array:
    """Normalised patches of all frames; a picture is the same in each."""
    if patches.dtype != jnp.uint8:
        return patches
    x = patches.astype(jnp.float32).reshape(*patches.shape[:2], len(MEAN), 1, -1) / 255
    x = (x - jnp.asarray(MEAN)[:, None, None]) / jnp.asarray(STD)[:, None, None]
    return jnp.repeat(x, cfg.vision.temporal_patch_size, axis=3).reshape(*patches.shape[:2], -1)
