"""OmniGen2's diffusion transformer over packed lanes: three refiners, each on a lane of its own, then joint layers.

Lanes of one batch: "text" (features of the instruction), "ref" (tokens of reference latents), "gen" (tokens of noisy
latents). Each is a dict with `sample` [R, S] (1-based, 0 is padding), `split` [R, S] (which picture of its sample),
`position` [R, S, 3] and `flow` [R, S], the entry of the row's times [R, F]; "ref" also has `index` [R, S], the number of the
picture among its sample's references. A refiner's scope is one split of one sample; in the joint layers every slot sees
its whole sample. Nothing needs padding, and a lane may have no slots.

Shapes: R rows, S slots, F flows (noisy pictures) per row, D width, E width of the time embedding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sgt_jax.models.attention import attend, prepare, segment_info
from sgt_jax.models.lanes import flat, in_order, join, split
from sgt_jax.models.layers import Linear, RMSNorm, apply_rope, rms, rope_angles, rotation, time_features, weight
from sgt_jax.models.omnigen2.config import MAX_REFERENCES, OmniGen2Config
from sgt_jax.models.stack import layer_input, run_layers
from sgt_jax.models.transformer import Mlp
from sgt_jax.parallel.partitioning import constrain

Lane = Mapping[str, jax.Array]
ROPE_BASE = 10000.0
HEAD_EPS = 1e-5  # of the norms of queries and keys, whatever norm_eps is
OUT_EPS = 1e-6
TIME_FEATURES = 256
LANES = ("text", "ref", "gen")
_KINDS = ("hidden", "q", "k", "v")

_xavier, _zeros, _normal = nn.initializers.xavier_uniform(), nn.initializers.zeros, nn.initializers.normal(0.02)


def _linear(cfg: OmniGen2Config, features: int, name: str | None = None, **kw: Any) -> Linear:
    """A linear layer; those of blocks have no bias."""
    kw = dict(use_bias=False, kernel_init=_xavier) | kw
    return Linear(features, dtype=cfg.compute_dtype, precision=cfg.precision, name=name, **kw)


def _per_slot(x: jax.Array, flow: jax.Array) -> jax.Array:
    """x [R, F, W] at flow [R, S] -> [R, S, W], or flat as `lanes.flat` makes it."""
    return flat(jnp.take_along_axis(x, flow[..., None], axis=1))


class ModulatedNorm(nn.Module):
    """norm(x) * (1 + scale), and the three other parts of the modulation, all per slot."""

    config: OmniGen2Config

    @nn.compact
    def __call__(self, x: jax.Array, active: jax.Array, flow: jax.Array) -> tuple[jax.Array, ...]:
        cfg = self.config
        linear = _linear(cfg, 4 * cfg.dit.hidden_size, "linear", use_bias=True, kernel_init=_zeros)
        scale, gate, scale_mlp, gate_mlp = jnp.split(_per_slot(linear(active), flow), 4, axis=-1)
        x = RMSNorm(cfg.dit.norm_eps, cfg.compute_dtype, name="norm")(x)
        return x * (1 + scale), gate, scale_mlp, gate_mlp


class Block(nn.Module):
    """One layer of a stack. Called by `run_layers`.

    Attributes:
      modulated: whether the time reaches it.
      lengths: of the lanes that are joined in x, as captured states are shown one lane after the other.
      keep: what to put out: any of "hidden", "q", "k", "v".
    """

    config: OmniGen2Config
    modulated: bool
    lengths: tuple[int, ...]
    keep: tuple[str, ...] = ()

    @nn.compact
    def __call__(
        self, x: jax.Array, per_layer: None, active: jax.Array | None, flow: jax.Array,
        rotary: tuple[jax.Array, jax.Array], mask: Any,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:  # fmt: skip
        del per_layer
        cfg, dit = self.config, self.config.dit
        x = layer_input(constrain(x, "rows", "slots", None))
        shape, x = x.shape, flat(x)

        def norm(name: str, eps: float = dit.norm_eps) -> RMSNorm:
            return RMSNorm(eps, cfg.compute_dtype, name=name)

        if self.modulated:
            h, gate, scale_mlp, gate_mlp = ModulatedNorm(cfg, name="norm1")(x, active, flow)
            gate, gate_mlp = jnp.tanh(gate), jnp.tanh(gate_mlp)
        else:
            h, gate, scale_mlp, gate_mlp = norm("norm1")(x), 1, 0, 1

        d = dit.head_size
        widths = {"q": dit.hidden_size, "k": dit.num_kv_heads * d, "v": dit.num_kv_heads * d}
        q, k, v = (
            _linear(cfg, width, f"{m}_proj")(h).reshape(*shape[:2], width // d, d) for m, width in widths.items()
        )
        q = apply_rope(norm("q_norm", HEAD_EPS)(q), rotary, pairs=True)
        k = apply_rope(norm("k_norm", HEAD_EPS)(k), rotary, pairs=True)
        out = {m: in_order(y, self.lengths) for m, y in (("q", q), ("k", k), ("v", v)) if m in self.keep}
        y = attend(q, k, v, mask, backend=cfg.attention, block=cfg.attention_block, precision=cfg.precision)
        y = _linear(cfg, dit.hidden_size, "o_proj")(flat(y.reshape(shape)))
        x = x + gate * norm("norm2")(y)

        u = norm("ffn_norm1")(x) * (1 + scale_mlp)
        y = Mlp(dit.hidden_size, dit.mlp_width, lambda n, name: _linear(cfg, n, name), name="mlp")(u)
        x = (x + gate_mlp * norm("ffn_norm2")(y)).reshape(shape)
        out["hidden"] = in_order(x, self.lengths)
        return x, {name: out[name] for name in self.keep}


class Stack(nn.Module):
    """Equal blocks one after the other."""

    config: OmniGen2Config
    count: int
    modulated: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, active: jax.Array | None, flow: jax.Array, position: jax.Array, segment: Sequence[jax.Array],
        lengths: Sequence[int] = (), keep: tuple[str, ...] = (),
    ) -> tuple[jax.Array, Any]:  # fmt: skip
        """Runs the blocks; slots see their own (sample, split), which is `segment`."""
        cfg = self.config
        info = segment_info(*segment)
        mask = prepare(info, info, backend=cfg.attention, block=cfg.attention_block)
        rotary = rotation(rope_angles(position, cfg.dit.head_size, ROPE_BASE, cfg.dit.axes_dim_rope))
        attributes = dict(
            config=cfg, modulated=self.modulated, lengths=tuple(lengths) or (x.shape[1],), keep=tuple(keep)
        )
        return run_layers(
            Block, attributes, self.count, cfg.scan_layers, cfg.remat, x, None, active, flow, rotary, mask
        )


class TimeEmbedder(nn.Module):
    """t [...] -> [..., E]."""

    config: OmniGen2Config

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        cfg, kw = self.config, dict(use_bias=True, kernel_init=_normal)
        x = time_features(t, TIME_FEATURES, cfg.dit.timestep_scale)
        x = _linear(cfg, cfg.dit.time_width, "linear_1", **kw)(x)
        return _linear(cfg, cfg.dit.time_width, "linear_2", **kw)(jax.nn.silu(x))


class CaptionEmbedder(nn.Module):
    """Features [R, S, TF] -> [R, S, D]."""

    config: OmniGen2Config

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        cfg = self.config
        x = RMSNorm(cfg.dit.norm_eps, cfg.compute_dtype, name="norm")(x)
        truncated = nn.initializers.truncated_normal(0.02)
        return _linear(cfg, cfg.dit.hidden_size, "linear", use_bias=True, kernel_init=truncated)(x)


class Output(nn.Module):
    """The last norm, scaled by the time, and the projection to velocities, float32. Zero when fresh."""

    config: OmniGen2Config

    @nn.compact
    def __call__(self, x: jax.Array, active: jax.Array, flow: jax.Array) -> jax.Array:
        cfg, kw = self.config, dict(use_bias=True, kernel_init=_zeros)
        shape, x = x.shape, flat(x)
        wide = x.astype(jnp.float32)
        x = rms(wide - jnp.mean(wide, axis=-1, keepdims=True), OUT_EPS)
        x = x * (1 + _per_slot(_linear(cfg, cfg.dit.hidden_size, "linear_1", **kw)(active), flow))
        y = _linear(cfg, cfg.dit.token_width, "linear_2", out_dtype=jnp.float32, **kw)(x)
        return y.reshape(*shape[:2], cfg.dit.token_width)


class Dit(nn.Module):
    """The whole transformer, and its parts for sampling, which keeps what does not change."""

    config: OmniGen2Config

    def setup(self) -> None:
        cfg, dit = self.config, self.config.dit
        self.timestep_embedder, self.caption_embedder = TimeEmbedder(cfg), CaptionEmbedder(cfg)
        self.x_embedder = _linear(cfg, dit.hidden_size, use_bias=True)
        self.ref_image_patch_embedder = _linear(cfg, dit.hidden_size, use_bias=True)
        self.image_index_embedding = weight(self, "image_index_embedding", _normal, (MAX_REFERENCES, dit.hidden_size))
        self.context_refiner = Stack(cfg, dit.num_refiner_layers, modulated=False)
        self.noise_refiner = Stack(cfg, dit.num_refiner_layers)
        self.ref_image_refiner = Stack(cfg, dit.num_refiner_layers)
        self.joint = Stack(cfg, dit.num_layers)
        self.norm_out = Output(cfg)

    def time(self, t: jax.Array) -> jax.Array:
        """Times [R, F] -> what modulates, silu of their embedding, [R, F, E]."""
        return jax.nn.silu(self.timestep_embedder(t))

    def read(self, features: jax.Array, lane: Lane) -> jax.Array:
        """Lane "text" with the instruction's features [R, T, TF] -> refined [R, T, D]; knows no time."""
        x = self.caption_embedder(features)
        return self.context_refiner(x, None, lane["flow"], lane["position"], (lane["sample"], lane["split"]))[0]

    def refine_references(self, tokens: jax.Array, active: jax.Array, lane: Lane) -> jax.Array:
        """Lane "ref" with latent tokens [R, K, p*p*C] -> refined [R, K, D]."""
        x = self.ref_image_patch_embedder(tokens)
        x = x + self.image_index_embedding[lane["index"]].astype(x.dtype)
        return self.ref_image_refiner(x, active, lane["flow"], lane["position"], (lane["sample"], lane["split"]))[0]

    def refine_noise(self, tokens: jax.Array, active: jax.Array, lane: Lane) -> jax.Array:
        """Lane "gen" with noisy latent tokens [R, G, p*p*C] -> refined [R, G, D]; knows no instruction."""
        x = self.x_embedder(tokens)
        return self.noise_refiner(x, active, lane["flow"], lane["position"], (lane["sample"], lane["split"]))[0]

    def velocity(
        self, x: Sequence[jax.Array], active: jax.Array, lanes: Sequence[Lane], capture: Sequence[str] = ()
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Refined lanes, "gen" the last -> velocities of its tokens, float32 [R, G, p*p*C]; captured inner states."""
        lengths = [part.shape[1] for part in x]
        facts = {name: join([lane[name] for lane in lanes]) for name in ("sample", "position", "flow")}
        wanted = [name.rsplit("_", 1) for name in capture]
        wanted = [(kind, int(i)) for kind, i in (w for w in wanted if len(w) == 2) if kind in _KINDS and i.isdigit()]
        keep = tuple(sorted({kind for kind, _ in wanted}))
        y, outs = self.joint(
            join(x), active, facts["flow"], facts["position"], (facts["sample"], jnp.zeros_like(facts["sample"])),
            lengths, keep,
        )  # fmt: skip
        found = {f"{kind}_{i}": outs[kind][i] if isinstance(outs, dict) else outs[i][kind] for kind, i in wanted}
        return self.norm_out(split(y, lengths)[-1], active, lanes[-1]["flow"]), found

    def __call__(
        self, features: jax.Array, references: jax.Array, noisy: jax.Array, t: jax.Array, lanes: Mapping[str, Lane],
        capture: Sequence[str] = (),
    ) -> tuple[jax.Array, dict[str, jax.Array]]:  # fmt: skip
        """One evaluation.

        Args:
          features: [R, T, TF] of lane "text". references: [R, K, p*p*C] of lane "ref". noisy: [R, G, p*p*C] of "gen".
          t: [R, F] in [0, 1], 0 is noise.
          lanes: facts of the slots of "text", "ref" and "gen".
          capture: "hidden_3" (after joint layer 3), "q_3", "k_3", "v_3" (as attention uses them), lanes one after the
            other: text, ref (where it has slots), gen. Other names are ignored.

        Returns:
          Velocities float32 [R, G, p*p*C], and what was captured.
        """
        active = self.time(t)
        x = {"text": self.read(features, lanes["text"])}
        if references.shape[1]:
            x["ref"] = self.refine_references(references, active, lanes["ref"])
        x["gen"] = self.refine_noise(noisy, active, lanes["gen"])
        return self.velocity(list(x.values()), active, [lanes[name] for name in x], capture)
