"""The understanding encoder: SigLIP over the patches of all pictures of a row, and the connector to the decoder."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sgt_jax.models.attention import attend, prepare, segment_info
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.lanes import flat
from sgt_jax.models.layers import LayerNorm, Linear, gelu_tanh, random_code_table, weight
from sgt_jax.models.stack import layer_input, run_layers
from sgt_jax.parallel.partitioning import constrain, whole

_xavier, _lecun = nn.initializers.xavier_uniform(), nn.initializers.lecun_normal()


class SelfAttention(nn.Module):
    """Attention within each picture; x is [B*S, width] or, where slots are cut up, [B, S, width]; shape is (B, S)."""

    config: BagelConfig

    @nn.compact
    def __call__(self, x: jax.Array, mask: Any, shape: tuple[int, int]) -> jax.Array:
        cfg = self.config
        width, heads = cfg.vit.hidden_size, cfg.vit.num_attention_heads

        def linear(name: str) -> Linear:
            return Linear(width, kernel_init=_xavier, dtype=cfg.compute_dtype, precision=cfg.precision, name=name)

        q, k, v = (linear(f"{m}_proj")(x).reshape(*shape, heads, width // heads) for m in "qkv")
        y = attend(q, k, v, mask, backend=cfg.attention, block=cfg.attention_block, precision=cfg.precision)
        return linear("out_proj")(y.reshape(x.shape))


class VitMlp(nn.Module):
    """fc1, tanh-GELU, fc2."""

    config: BagelConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kw = dict(kernel_init=_lecun, dtype=self.config.compute_dtype, precision=self.config.precision)
        x = gelu_tanh(Linear(self.config.vit.intermediate_size, name="fc1", **kw)(x))
        x = constrain(x, "rows", *("slots",) * (x.ndim - 2), "mlp")
        return Linear(self.config.vit.hidden_size, name="fc2", **kw)(x)


class VitLayer(nn.Module):
    """x += attention(norm x); x += mlp(norm x). Called by `run_layers`."""

    config: BagelConfig

    @nn.compact
    def __call__(self, x: jax.Array, per_layer: None, mask: Any) -> tuple[jax.Array, None]:
        del per_layer
        kw = dict(epsilon=self.config.vit.layer_norm_eps, dtype=self.config.compute_dtype)
        x = layer_input(constrain(x, "rows", "slots", None))
        shape, x = x.shape, flat(x)
        x = x + SelfAttention(self.config, name="self_attn")(LayerNorm(name="layer_norm1", **kw)(x), mask, shape[:2])
        x = x + VitMlp(self.config, name="mlp")(LayerNorm(name="layer_norm2", **kw)(x))
        return x.reshape(shape), None


class PositionTable(nn.Module):
    """SigLIP's learned table, one row per patch position."""

    config: BagelConfig

    @nn.compact
    def __call__(self, index: jax.Array) -> jax.Array:
        cfg = self.config
        side, width = cfg.vit.image_size // cfg.vit.patch_size, cfg.vit.hidden_size

        def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            if cfg.position_init == "random_codes":
                return random_code_table(side, width, cfg.position_seed)
            return jax.random.normal(key, shape) * width**-0.5

        return whole(weight(self, "embedding", init, (side * side, width)))[index]


class VisionTransformer(nn.Module):
    """SigLIP up to the selected layer; the final norm is applied whichever layer that is."""

    config: BagelConfig

    @nn.compact
    def __call__(self, patches: jax.Array, table: jax.Array, sample: jax.Array, image: jax.Array) -> jax.Array:
        """Encodes the ViT lane.

        Args:
          patches: [B, V, P*P*3], uint8 or in [-1, 1].
          table: int [B, V], row of the position table.
          sample, image: int [B, V]; attention stays within the same sample and picture. Sample 0 is padding.

        Returns:
          [B, V, width].
        """
        cfg = self.config
        if patches.dtype == jnp.uint8:
            patches = patches.astype(jnp.float32) / 127.5 - 1
        kw: dict[str, Any] = dict(dtype=cfg.compute_dtype, precision=cfg.precision)
        x = Linear(cfg.vit.hidden_size, kernel_init=_lecun, name="patch_embedding", **kw)(patches)
        x = x + PositionTable(cfg, name="position_embedding")(table).astype(x.dtype)
        info = segment_info(sample, image)
        mask = prepare(info, info, backend=cfg.attention, block=cfg.attention_block)
        x, _ = run_layers(VitLayer, {"config": cfg}, cfg.vit_layers, cfg.scan_layers, cfg.remat, x, None, mask)
        x = constrain(x, "rows", "slots", None)
        return LayerNorm(cfg.vit.layer_norm_eps, cfg.compute_dtype, name="post_layernorm")(x)


class Connector(nn.Module):
    """ViT width -> decoder width: fc1, tanh-GELU, fc2."""

    config: BagelConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        cfg = self.config
        kw: dict[str, Any] = dict(bias_init=None, dtype=cfg.compute_dtype, precision=cfg.precision)
        # Said at every step: left alone, the compiler cuts channels up as the kernels are and gathers the rows of all.
        x = gelu_tanh(constrain(Linear(cfg.llm.hidden_size, name="fc1", **kw)(x), "rows", "slots", None))
        return constrain(Linear(cfg.llm.hidden_size, name="fc2", **kw)(x), "rows", "slots", None)
