"""The text model of Qwen2.5-VL: a pre-norm decoder whose rotary positions have three components.

Shapes: B rows, S slots, T width, H heads, KV key-value heads, D head size.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.batch import TokenInfo
from sgt_jax.models.attention import prepare
from sgt_jax.models.lanes import flat
from sgt_jax.models.layers import Linear, RMSNorm, apply_rope, rotation
from sgt_jax.models.omnigen2.config import OmniGen2Config, TextConfig
from sgt_jax.models.stack import layer_input, run_layers
from sgt_jax.models.transformer import Cache, Embedding, InPlace, Mlp, OpenCache, attend_after, concat_info
from sgt_jax.parallel.partitioning import constrain

_KINDS = ("hidden", "q", "k", "v")


def rotary_angles(position: jax.Array, text: TextConfig) -> jax.Array:
    """Positions int [B, S, 3] -> angles float32 [B, S, D/2].

    One row of frequencies for all three components: `mrope_section` says how many of them turn with each.
    """
    size = text.head_size
    frequencies = text.rope_theta ** -(np.arange(0, size, 2, dtype=np.float64) / size)
    component = np.repeat(np.arange(3), text.mrope_section)
    return position[..., component].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)


def _linear(cfg: OmniGen2Config, features: int, name: str | None = None, bias: bool = False) -> Linear:
    """A linear layer of the text model."""
    return Linear(
        features, use_bias=bias, kernel_init=nn.initializers.normal(cfg.fresh_std(name)), bias_init=nn.initializers.zeros,
        dtype=cfg.compute_dtype, precision=cfg.precision, name=name,
    )  # fmt: skip


class TextLayer(nn.Module):
    """x += attention(norm x); x += mlp(norm x). Called by `run_layers`.

    Attributes:
      keep: what to put out: any of "hidden", "q", "k", "v", and "cache" for the layer's part of an `OpenCache`.
    """

    config: OmniGen2Config
    keep: tuple[str, ...]

    @nn.compact
    def __call__(
        self, x: jax.Array, cached: tuple[jax.Array, jax.Array] | None, rotary: tuple[jax.Array, jax.Array], mask: Any
    ) -> tuple[jax.Array, dict[str, Any]]:
        cfg, text = self.config, self.config.text
        x = layer_input(constrain(x, "rows", "slots", None))
        (b, s, _), d, y = x.shape, text.head_size, flat(x)
        normed = RMSNorm(text.rms_norm_eps, cfg.compute_dtype, name="input_layernorm")(y)
        q, k, v = (
            _linear(cfg, heads * d, name, bias=True)(normed).reshape(b, s, heads, d)
            for name, heads in (
                ("q_proj", text.num_attention_heads),
                ("k_proj", text.num_key_value_heads),
                ("v_proj", text.num_key_value_heads),
            )
        )
        q, k = apply_rope(q, rotary), apply_rope(k, rotary)
        out = {"q": q, "k": k, "v": v}
        z, out["cache"] = attend_after(q, k, v, cached, mask, cfg)
        y = y + _linear(cfg, text.hidden_size, "o_proj")(flat(z.reshape(b, s, -1)))
        normed = RMSNorm(text.rms_norm_eps, cfg.compute_dtype, name="post_attention_layernorm")(y)
        y = y + Mlp(text.hidden_size, text.intermediate_size, functools.partial(_linear, cfg), name="mlp")(normed)
        out["hidden"] = y.reshape(x.shape)
        return out["hidden"], {name: out[name] for name in self.keep}


class TextModel(nn.Module):
    """Embedding table, layers, final norm, and a language head where it is not the table itself."""

    config: OmniGen2Config

    def setup(self) -> None:
        cfg, text = self.config, self.config.text
        normal = nn.initializers.normal(text.initializer_range)
        self.embed = Embedding(text.vocab_size, text.hidden_size, normal, cfg.compute_dtype)
        self.norm = RMSNorm(text.rms_norm_eps, cfg.compute_dtype)
        if not text.tie_word_embeddings:
            self.lm_head = Linear(
                text.vocab_size, use_bias=False, kernel_init=normal, dtype=cfg.compute_dtype, out_dtype=jnp.float32,
                precision=cfg.precision,
            )  # fmt: skip

    def embed_tokens(self, token: jax.Array) -> jax.Array:
        """int [B, S] -> [B, S, T]."""
        return self.embed(token)

    def head(self, h: jax.Array) -> jax.Array:
        """Final states [..., T] -> float32 logits, by a head of its own."""
        return self.lm_head(h)

    @nn.compact
    def __call__(
        self, x: jax.Array, info: TokenInfo, cache: Cache | OpenCache | None = None, capture: Sequence[str] = (),
        return_kv: bool = False, silent: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, Any]]:  # fmt: skip
        """Runs all layers and the final norm.

        Args:
          x: [B, S, T] embeddings, those of pictures put in.
          info: facts of the slots; positions [B, S, 3].
          cache: slots read before; the mask rule decides who sees them. An open one takes one more slot a row.
          capture: names of inner states to return: "hidden_3", the residual stream after layer 3; "q_3", "k_3", "v_3", as
            its attention uses them. Other names are ignored.
          return_kv: also return keys and values of the new slots.
          silent: bool [B, S], slots that see their sample but are seen by nobody, themselves included: what the
            reference makes of padding inside a sample. None of them by default.

        Returns:
          Final states [B, S, T]; a dict of what was captured, with "cache" (of the new slots) if return_kv, or the open
          cache after this step.
        """
        cfg = self.config
        x = x.astype(cfg.compute_dtype)
        in_place = isinstance(cache, OpenCache)
        key_info = info if cache is None else cache.noted(info) if in_place else concat_info(cache.info, info)
        # The mask does not depend on positions; without them facts are equal in shape.
        bare = info._replace(position=info.order)
        keys = bare if cache is None else key_info._replace(position=key_info.order)
        if silent is not None:
            keys = keys._replace(sample=jnp.where(silent, 0, keys.sample))
        if in_place:
            mask = InPlace(cache.at, bare, keys)
        else:
            mask = prepare(bare, keys, backend=cfg.attention, block=cfg.attention_block)
        rotary = rotation(rotary_angles(info.position, cfg.text))
        parts = [name.rsplit("_", 1) for name in capture]
        wanted = [(kind, int(i)) for kind, i in (p for p in parts if len(p) == 2) if kind in _KINDS and i.isdigit()]
        keep = tuple(kind for kind in _KINDS if kind in {k for k, _ in wanted} or (return_kv and kind in ("k", "v")))
        keep += ("cache",) if in_place else ()
        per_layer = None if cache is None else (cache.keys, cache.values)
        x, outs = run_layers(
            TextLayer, {"config": cfg, "keep": keep}, cfg.text.num_hidden_layers, cfg.scan_layers, cfg.remat,
            x, per_layer, rotary, mask,
        )  # fmt: skip
        scanned = isinstance(outs, dict)
        aux: dict[str, Any] = {
            f"{kind}_{i}": outs[kind][i] if scanned else outs[i][kind] for kind, i in wanted
        }
        if in_place:
            aux["cache"] = cache.after(key_info, outs)
        elif return_kv:
            keys_values = (outs[name] if scanned else tuple(out[name] for out in outs) for name in ("k", "v"))
            aux["cache"] = Cache(*keys_values, info)
        return self.norm(x), aux

    def touch(self, x: jax.Array, info: TokenInfo) -> jax.Array:
        """Uses every parameter once, for `init`."""
        h, _ = self(x + self.embed_tokens(info.sample), info)
        return h.sum() if self.config.text.tie_word_embeddings else self.head(h).sum()
