"""BAGEL's mixture of transformers in its two-lane form: each lane has its own weights, attention is joint.

Text and pictures that are seen go through one set of weights (und), latents through another (gen). Because lanes are
separate arrays, routing is a static slice. Everything per token (norms, projections, MLP) belongs to an `Expert`;
attention is the only place where lanes meet. Shapes: U und slots, G gen slots, B rows; either lane may have zero slots.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sgt_jax.batch import TokenInfo
from sgt_jax.models.attention import prepare
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.lanes import flat, in_order, join, split
from sgt_jax.models.layers import Linear, RMSNorm, apply_rope, rope_angles, rotation
from sgt_jax.models.stack import layer_input, run_layers
from sgt_jax.models.transformer import Cache, Embedding, InPlace, Mlp, OpenCache, attend_after, concat_info
from sgt_jax.parallel.partitioning import constrain

# What a layer can put out; captured as "hidden_3" and so on.
_KINDS = ("hidden", "q", "k", "v")


def _linear(cfg: BagelConfig, features: int, name: str | None = None, bias: bool = False) -> Linear:
    """A linear layer of the decoder."""
    init = nn.initializers.normal(cfg.llm.initializer_range)
    return Linear(
        features, use_bias=bias, kernel_init=init, dtype=cfg.compute_dtype, precision=cfg.precision, name=name
    )


class Expert(nn.Module):
    """One set of weights of one layer, before (`project`) and after (`finish`) attention.

    Attributes:
      frozen: stop gradients where BAGEL's `freeze_und` does.
    """

    config: BagelConfig
    frozen: bool

    def setup(self) -> None:
        cfg, llm = self.config, self.config.llm

        def norm() -> RMSNorm:
            return RMSNorm(llm.rms_norm_eps, cfg.compute_dtype)

        def linear(features: int, bias: bool) -> Linear:
            return _linear(cfg, features, bias=bias)

        self.input_layernorm, self.post_attention_layernorm = norm(), norm()
        self.q_norm, self.k_norm = norm(), norm()
        self.q_proj = linear(llm.num_attention_heads * llm.head_size, True)
        self.k_proj = linear(llm.num_key_value_heads * llm.head_size, True)
        self.v_proj = linear(llm.num_key_value_heads * llm.head_size, True)
        self.o_proj = linear(llm.hidden_size, False)
        self.mlp = Mlp(llm.hidden_size, llm.intermediate_size, functools.partial(_linear, cfg))

    def _hold(self, x: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(x) if self.frozen else x

    def project(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[B, S, width] -> q [B, S, H, D], k and v [B, S, KV, D]; q and k normalised, not yet rotated."""
        (b, s, _), d = x.shape, self.config.llm.head_size
        x = self.input_layernorm(flat(x))
        q, k, v = (y.reshape(b, s, y.shape[-1] // d, d) for y in (self.q_proj(x), self.k_proj(x), self.v_proj(x)))
        return self._hold(self.q_norm(q)), self._hold(self.k_norm(k)), self._hold(v)

    def finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """Residual stream and attention output [B, S, H, D] -> residual stream after the layer."""
        b, s, h, d = attended.shape
        y = flat(x)
        y = y + self._hold(self.o_proj(flat(attended.reshape(b, s, h * d))))
        y = y + self._hold(self.mlp(self.post_attention_layernorm(y)))
        return y.reshape(x.shape)


class DecoderLayer(nn.Module):
    """One layer over both lanes. Called by `run_layers`.

    Attributes:
      keep: what to put out: any of "hidden", "q", "k", "v", and "cache" for the layer's part of an `OpenCache`.
    """

    config: BagelConfig
    keep: tuple[str, ...]

    @nn.compact
    def __call__(
        self, x: tuple[jax.Array, jax.Array], cached: tuple[jax.Array, jax.Array] | None,
        rotary: tuple[jax.Array, jax.Array], mask: Any,
    ) -> tuple[tuple[jax.Array, jax.Array], dict[str, Any]]:  # fmt: skip
        cfg = self.config
        experts = (Expert(cfg, cfg.freeze_und, name="und"), Expert(cfg, False, name="gen"))
        x = tuple(layer_input(constrain(y, "rows", "slots", None)) for y in x)
        lengths = [y.shape[1] for y in x]
        q, k, v = (join(parts) for parts in zip(*(expert.project(y) for expert, y in zip(experts, x))))
        q, k = apply_rope(q, rotary), apply_rope(k, rotary)
        out = {name: in_order(y, lengths) for name, y in (("q", q), ("k", k), ("v", v)) if name in self.keep}
        attended, out["cache"] = attend_after(q, k, v, cached, mask, cfg)
        x = tuple(expert.finish(y, part) for expert, y, part in zip(experts, x, split(attended, lengths)))
        out["hidden"] = jnp.concatenate(x, axis=1)
        return x, {name: out[name] for name in self.keep}


class Decoder(nn.Module):
    """Embedding table, layers, final norms and language head.

    Attributes:
      layer: the module of a layer; another one routes slots to the same experts in another way (`routing.py`).
    """

    config: BagelConfig
    layer: type[nn.Module] = DecoderLayer

    def setup(self) -> None:
        cfg, llm = self.config, self.config.llm
        normal = nn.initializers.normal(llm.initializer_range)
        self.embed = Embedding(llm.vocab_size, llm.hidden_size, normal, cfg.compute_dtype)
        self.norm_und = RMSNorm(llm.rms_norm_eps, cfg.compute_dtype)
        self.norm_gen = RMSNorm(llm.rms_norm_eps, cfg.compute_dtype)
        self.lm_head = Linear(
            llm.vocab_size, use_bias=False, kernel_init=normal, dtype=cfg.compute_dtype, out_dtype=jnp.float32,
            precision=cfg.precision,
        )  # fmt: skip

    def embed_tokens(self, token: jax.Array) -> jax.Array:
        """int [...] -> [..., width]."""
        return self.embed(token)

    def logits(self, h_und: jax.Array) -> jax.Array:
        """Final hidden states -> float32 logits [..., vocabulary]."""
        return self.lm_head(h_und)

    @nn.compact
    def __call__(
        self, x_und: jax.Array, x_gen: jax.Array, info_und: TokenInfo, info_gen: TokenInfo,
        cache: Cache | OpenCache | None = None, capture: Sequence[str] = (), return_kv: bool = False,
    ) -> tuple[jax.Array, jax.Array, dict[str, Any]]:  # fmt: skip
        """Runs all layers and the final norms.

        Args:
          x_und, x_gen: [B, U, width], [B, G, width] inputs of the two lanes.
          info_und, info_gen: facts of their slots.
          cache: slots read before; the mask rule decides who sees them. An open one takes one more slot a row, of "und".
          capture: names of inner states to return: "hidden_3" (residual stream after layer 3), "q_3", "k_3", "v_3" (as
            attention uses them), "input_embeds", "final_norm"; each with the und slots first. Other names are ignored.
          return_kv: also return the keys and values of the new slots.

        Returns:
          Final hidden states [B, U, width], [B, G, width]; a dict of what was captured, with "cache" (a Cache of only
          the new slots, und first) if return_kv, or the open cache after this step.
        """
        cfg, dtype = self.config, self.config.compute_dtype
        x = (x_und.astype(dtype), x_gen.astype(dtype))
        aux = {"input_embeds": jnp.concatenate(x, axis=1)} if "input_embeds" in capture else {}
        if cfg.freeze_und:
            x = (jax.lax.stop_gradient(x[0]), x[1])
        info = TokenInfo(*(join(facts) for facts in zip(info_und, info_gen)))
        in_place = isinstance(cache, OpenCache)
        if in_place:
            mask = InPlace(cache.at, info, cache.noted(info))
        else:
            key_info = info if cache is None else concat_info(cache.info, info)
            mask = prepare(info, key_info, backend=cfg.attention, block=cfg.attention_block)
        rotary = rotation(rope_angles(info.position, cfg.llm.head_size, cfg.llm.rope_theta))

        wanted = [name.rsplit("_", 1) for name in capture]
        wanted = [(kind, int(i)) for kind, i in (w for w in wanted if len(w) == 2) if kind in _KINDS and i.isdigit()]
        keep = tuple(sorted({kind for kind, _ in wanted} | ({"k", "v"} if return_kv else set())))
        keep += ("cache",) if in_place else ()
        per_layer = None if cache is None else (cache.keys, cache.values)
        x, outs = run_layers(
            self.layer, {"config": cfg, "keep": keep}, cfg.llm.num_hidden_layers, cfg.scan_layers, cfg.remat,
            x, per_layer, rotary, mask,
        )  # fmt: skip

        scanned = isinstance(outs, dict)
        for kind, i in wanted:
            aux[f"{kind}_{i}"] = outs[kind][i] if scanned else outs[i][kind]
        if in_place:
            aux["cache"] = cache.after(mask.keys, outs)
        elif return_kv:
            keys, values = (outs[n] if scanned else tuple(out[n] for out in outs) for n in ("k", "v"))
            aux["cache"] = Cache(keys, values, concat_info(info_und, info_gen))
        h_und, h_gen = self.norm_und(x[0]), self.norm_gen(x[1])
        if "final_norm" in capture:
            aux["final_norm"] = jnp.concatenate([h_und, h_gen], axis=1)
        if cfg.freeze_und:
            h_und = jax.lax.stop_gradient(h_und)
        return h_und, h_gen, aux

    def touch(self, x_und: jax.Array, x_gen: jax.Array, info_und: TokenInfo, info_gen: TokenInfo) -> jax.Array:
        """Uses every parameter once, for `init`."""
        h_und, h_gen, _ = self(x_und + self.embed_tokens(info_und.sample), x_gen, info_und, info_gen)
        return self.logits(h_und).sum() + h_gen.sum()
