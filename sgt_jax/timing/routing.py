"""Two other ways to route slots to two experts with the weights of `DecoderLayer`, for comparison (`bench --mot`).

A model that keeps all slots in one array must either compute both experts for every slot and select, or call a grouped
product. Both give the same numbers as static lanes; docs/performance.md says what they cost.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.models.attention import attend
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.decoder import Decoder, DecoderLayer, Expert
from sgt_jax.models.layers import apply_rope, rms

Lanes = tuple[jax.Array, jax.Array]


class BothExperts(DecoderLayer):
    """Every slot goes through both experts, and one result of each is kept. Captures nothing."""

    @nn.compact
    def __call__(self, x: Lanes, cached: None, rotary: Lanes, mask: Any) -> tuple[Lanes, dict]:
        del cached
        cfg, lengths = self.config, [y.shape[1] for y in x]
        und, gen = Expert(cfg, cfg.freeze_und, name="und"), Expert(cfg, False, name="gen")
        slots = jnp.concatenate(x, axis=1)

        def select(a: jax.Array, b: jax.Array) -> jax.Array:
            first = jnp.arange(sum(lengths)) < lengths[0]
            return jnp.where(first.reshape(1, -1, *(1,) * (a.ndim - 2)), a, b)

        q, k, v = jax.tree.map(select, und.project(slots), gen.project(slots))
        q, k = apply_rope(q, rotary), apply_rope(k, rotary)
        seen = attend(q, k, v, mask, backend=cfg.attention, block=cfg.attention_block, precision=cfg.precision)
        out = select(und.finish(slots, seen), gen.finish(slots, seen))
        return (out[:, : lengths[0]], out[:, lengths[0] :]), {}


class GroupedExperts(DecoderLayer):
    """Products by `jax.lax.ragged_dot` over slots sorted by expert, kernels stacked. One row, trained weights given."""

    @nn.compact
    def __call__(self, x: Lanes, cached: None, rotary: Lanes, mask: Any) -> tuple[Lanes, dict]:
        del cached
        cfg, lengths, width = self.config, [y.shape[1] for y in x], x[0].shape[-1]
        if x[0].shape[0] != 1:
            raise ValueError(f"grouped experts take one row, not {x[0].shape[0]}: slots must be sorted by expert")
        weights = jax.tree.map(lambda *w: jnp.stack(w), *(self.get_variable("params", name) for name in ("und", "gen")))
        sizes, which = jnp.asarray(lengths, jnp.int32), np.repeat([0, 1], lengths)

        def linear(y: jax.Array, at: dict[str, jax.Array]) -> jax.Array:
            kernel = at["kernel"].astype(y.dtype)
            y = jax.lax.ragged_dot(y, kernel, sizes, precision=cfg.precision, preferred_element_type=y.dtype)
            return (y + at["bias"][which]).astype(y.dtype) if "bias" in at else y

        def norm(y: jax.Array, at: dict[str, jax.Array]) -> jax.Array:
            scale = at["scale"][which].reshape(len(which), *(1,) * (y.ndim - 2), -1)
            return (rms(y, cfg.llm.rms_norm_eps).astype(y.dtype) * scale).astype(y.dtype)

        y = jnp.concatenate(x, axis=1)[0]
        inner = norm(y, weights["input_layernorm"])
        q, k, v = (
            linear(inner, weights[name]).reshape(len(which), -1, cfg.llm.head_size)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        q, k = (apply_rope(norm(z, weights[n])[None], rotary) for z, n in ((q, "q_norm"), (k, "k_norm")))
        seen = attend(q, k, v[None], mask, backend=cfg.attention, block=cfg.attention_block, precision=cfg.precision)
        y = y + linear(seen.reshape(len(which), -1), weights["o_proj"])
        inner, mlp = norm(y, weights["post_attention_layernorm"]), weights["mlp"]
        y = y + linear(jax.nn.silu(linear(inner, mlp["gate_proj"])) * linear(inner, mlp["up_proj"]), mlp["down_proj"])
        y = y.reshape(1, -1, width)
        return (y[:, : lengths[0]], y[:, lengths[0] :]), {}


FORMS = {"static lanes": DecoderLayer, "both experts, then select": BothExperts, "ragged_dot": GroupedExperts}


def decoder(config: BagelConfig, form: str) -> Decoder:
    """A decoder that routes in one of FORMS."""
    return Decoder(config, FORMS[form])
