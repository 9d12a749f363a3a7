"""The BAGEL model as pure functions: fresh parameters, random draws, and one training forward over lanes.

Shapes: R rows, U und slots, V vit slots, G gen slots, L labels, n canvases of one size; p latent patch, C latent
channels.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sgt_jax.batch import PIXELS, PackedBatch, TokenInfo, canvases_of
from sgt_jax.models.autoencoder.model import Autoencoder, fresh_parameters, to_unit_range
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.decoder import Decoder
from sgt_jax.models.bagel.vision import Connector, VisionTransformer
from sgt_jax.models.layers import (
    Linear,
    normal,
    patchify_latents,
    random_code_table,
    shift_time,
    sincos_table,
    time_features,
    unpatchify_latents,
)
from sgt_jax.models.stack import unstacked
from sgt_jax.models.transformer import Cache, OpenCache
from sgt_jax.parallel.partitioning import constrain, whole

Params = Mapping[str, Any]
Draws = Mapping[str, Any]


class TimeEmbedder(nn.Module):
    """t [...] -> [..., width]: 256 features, linear, SiLU, linear."""

    config: BagelConfig

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        cfg = self.config
        kw: dict[str, Any] = dict(bias_init=None, dtype=cfg.compute_dtype, precision=cfg.precision)
        x = jax.nn.silu(Linear(cfg.llm.hidden_size, name="mlp_0", **kw)(time_features(t)))
        return Linear(cfg.llm.hidden_size, name="mlp_2", **kw)(x)


def _rows(x: jax.Array, index: jax.Array) -> jax.Array:
    """x [R, S, W] at index [R, T] -> [R, T, W]; negative indices read slot 0 (mask the result)."""
    return jnp.take_along_axis(x, jnp.maximum(index, 0)[..., None], axis=1)


def _fixed(table: jax.Array, dtype: Any) -> jax.Array:
    """A table that is never trained, on every device; rounded first, so that half the bytes travel."""
    return whole(jax.lax.stop_gradient(table).astype(dtype))


def position_tables(config: BagelConfig) -> dict[str, jax.Array]:
    """The two fixed tables: {"vit_pos_embed": [M_vit^2, width], "latent_pos_embed": [M_lat^2, width]}."""
    sides = {"vit_pos_embed": config.vit_max_num_patch_per_side, "latent_pos_embed": config.max_latent_size}
    width = config.llm.hidden_size
    if config.position_init == "random_codes":
        scale, seed = config.position_scale, config.position_seed
        return {n: scale * random_code_table(g, width, seed + i + 1) for i, (n, g) in enumerate(sides.items())}
    return {n: sincos_table(g, width) for n, g in sides.items()}


@functools.partial(jax.jit, static_argnums=0)
def _fresh(config: BagelConfig, key: jax.Array) -> dict[str, Any]:
    """Traced once for a config, however often a process asks: for shapes, for values, by another run."""
    return Bagel(config)._init(key)


class Bagel:
    """A BAGEL model; holds no arrays. Parameters are a plain nested dict of float32 arrays."""

    def __init__(self, config: BagelConfig) -> None:
        self.config = config
        kw: dict[str, Any] = dict(dtype=config.compute_dtype, precision=config.precision)
        self.vae = Autoencoder(config.vae, **kw)
        self.vit = VisionTransformer(config)
        self.connector = Connector(config)
        self.decoder = Decoder(config)
        self.time_embedder = TimeEmbedder(config)
        self.vae2llm = Linear(config.llm.hidden_size, bias_init=None, **kw)
        # Zero when fresh: an untrained model predicts velocity 0.
        self.llm2vae = Linear(config.latent_width, kernel_init=nn.initializers.zeros, out_dtype=jnp.float32, **kw)

    # -- Parameters ----------------------------------------------------------------------------------------------------

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh parameters, as BAGEL initialises what no checkpoint brings."""
        # What says how to compute, and not what, asks for no trace of its own.
        return _fresh(self.config.replace(remat="none", attention="xla", attention_block=512, freeze_und=False), key)

    def _init(self, key: jax.Array) -> dict[str, Any]:
        # Drawn in stacked form always: one layer is traced instead of all, and both forms start from equal values.
        cfg = self.config.replace(scan_layers=True, remat="none")
        keys = iter(jax.random.split(key, 8))
        zeros, index = jnp.zeros, jnp.zeros((1, 1), jnp.int32)
        info = TokenInfo(index, index, index, index, index)
        hidden = zeros((1, 1, cfg.llm.hidden_size))
        patches = zeros((1, 1, cfg.vit.patch_size**2 * cfg.vit.num_channels))

        def fresh(module: nn.Module, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return module.init(next(keys), *args, **kwargs)["params"]

        params = {
            "vae": fresh_parameters(self.vae, next(keys)),
            "vit": fresh(VisionTransformer(cfg), patches, index, index, index),
            "connector": fresh(self.connector, zeros((1, 1, cfg.vit.hidden_size))),
            "decoder": fresh(Decoder(cfg), hidden, hidden, info, info, method="touch"),
            "time_embedder": fresh(self.time_embedder, zeros((1,))),
            "vae2llm": fresh(self.vae2llm, zeros((1, cfg.latent_width))),
            "llm2vae": fresh(self.llm2vae, hidden),
        }
        params |= {name: {"table": table} for name, table in position_tables(cfg).items()}
        if cfg.copy_init_moe:
            decoder = params["decoder"]
            und = decoder["layers"]["und"]
            params["decoder"] = decoder | {"norm_gen": decoder["norm_und"], "layers": {"und": und, "gen": und}}
        if not self.config.scan_layers:
            params |= {part: unstacked(params[part]) for part in ("vit", "decoder") if "layers" in params[part]}
        return params

    # -- Randomness ----------------------------------------------------------------------------------------------------

    def draw(self, key: jax.Array, batch: PackedBatch) -> dict[str, Any]:
        """Everything random in one forward of `batch`.

        Returns:
          {"time": [R, G] normals, "noise": [R, G, p*p*C] normals, "vae": posterior normals: {"HxW": [R, n, h, w, C]}
          per canvas lane, {"moments": [R, G, p*p*C]} if the gen lane brings moments}.
        """
        cfg = self.config
        slots = batch["gen"]["sample"].shape
        time_key, noise_key, vae_key = jax.random.split(key, 3)
        shapes = {}
        for name, size in canvases_of(batch).items():
            count = batch[PIXELS + name]["pixels"].shape[1]
            shapes[name] = (slots[0], count, *(side // cfg.vae.downsample for side in size), cfg.vae.z_channels)
        if "moments" in batch["gen"]:
            shapes["moments"] = (*slots, cfg.latent_width)
        return {
            "time": normal(time_key, slots, lead=1),
            "noise": normal(noise_key, (*slots, cfg.latent_width), lead=1),
            "vae": {
                name: normal(jax.random.fold_in(vae_key, i), shape, lead=1)
                for i, (name, shape) in enumerate(sorted(shapes.items()))
            },
        }

    # -- Autoencoder ---------------------------------------------------------------------------------------------------

    def encode_moments(self, params: Params, pixels: jax.Array) -> jax.Array:
        """[N, H, W, 3], uint8 or in [-1, 1] -> moments [N, h, w, 2C], mean channels first."""
        return self.vae.apply({"params": whole(params["vae"])}, to_unit_range(pixels), method="encode")

    def decode_latent(self, params: Params, z: jax.Array) -> jax.Array:
        """Unscaled latents [N, h, w, C] -> pictures [N, H, W, 3], about in [-1, 1]."""
        return self.vae.apply({"params": whole(params["vae"])}, z, method="decode")

    def sample_latent(self, mean: jax.Array, logvar: jax.Array, noise: jax.Array) -> jax.Array:
        """A draw from the posterior, scaled as the decoder sees it. Any shape."""
        return self.scale_latent(mean + jnp.exp(logvar / 2) * noise)

    def scale_latent(self, z: jax.Array) -> jax.Array:
        """Unscaled -> scaled latents."""
        return self.config.vae.scale_factor * (z - self.config.vae.shift_factor)

    def unscale_latent(self, z: jax.Array) -> jax.Array:
        """Scaled -> unscaled latents."""
        return z / self.config.vae.scale_factor + self.config.vae.shift_factor

    def pictures(self, params: Params, tokens: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """Clean latent tokens [N, rows*columns, p*p*C] (scaled) -> pictures [N, H, W, 3], about in [-1, 1]."""
        z = unpatchify_latents(tokens, grid, self.config.latent_patch_size)
        return self.decode_latent(params, self.unscale_latent(z))

    # -- Parts of the forward, for sampling too ------------------------------------------------------------------------

    def see(self, params: Params, vit: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """The ViT lane -> "vit_out", "connector_out" and "tokens" (with the position table), each [R, V, width]."""
        out = self.vit.apply({"params": params["vit"]}, vit["patches"], vit["table"], vit["sample"], vit["image"])
        connected = self.connector.apply({"params": params["connector"]}, out)
        table = _fixed(params["vit_pos_embed"]["table"], connected.dtype)
        return {"vit_out": out, "connector_out": connected, "tokens": connected + table[vit["table"]]}

    def embed_und(self, params: Params, und: Mapping[str, jax.Array], seen: jax.Array | None) -> jax.Array:
        """The und lane and the ViT tokens [R, V, width] (None: no ViT lane) -> decoder inputs [R, U, width]."""
        token = und["token"]
        text = self.decoder.apply({"params": params["decoder"]}, jnp.maximum(token, 0), method="embed_tokens")
        x = jnp.where((token >= 0)[..., None], text, jnp.zeros_like(text))
        x = constrain(x, "rows", "slots", None)
        if seen is None or seen.shape[1] == 0:
            return x
        pointer = und["vit"]
        picked = _rows(constrain(seen, "rows", None, None), pointer)
        return jnp.where((pointer >= 0)[..., None], constrain(picked, "rows", "slots", None).astype(x.dtype), x)

    def embed_gen(self, params: Params, x_t: jax.Array, t: jax.Array, table: jax.Array) -> jax.Array:
        """Noisy latents [R, G, p*p*C], times and rows of the latent table [R, G] -> decoder inputs [R, G, width]."""
        x = self.vae2llm.apply({"params": params["vae2llm"]}, x_t)
        x = x + self.time_embedder.apply({"params": params["time_embedder"]}, t)
        x = constrain(x, "rows", "slots", None)
        return x + _fixed(params["latent_pos_embed"]["table"], x.dtype)[table]

    def decode(
        self, params: Params, x_und: jax.Array, x_gen: jax.Array, info_und: TokenInfo, info_gen: TokenInfo,
        cache: Cache | OpenCache | None = None, capture: Sequence[str] = (), return_kv: bool = False,
    ) -> tuple[jax.Array, jax.Array, dict[str, Any]]:  # fmt: skip
        """The decoder; see `Decoder.__call__`."""
        return self.decoder.apply(
            {"params": params["decoder"]}, x_und, x_gen, info_und, info_gen, cache, capture, return_kv
        )

    def logits(self, params: Params, h_und: jax.Array) -> jax.Array:
        """Final und states [..., width] -> float32 logits."""
        return self.decoder.apply({"params": params["decoder"]}, h_und, method="logits")

    def velocity(self, params: Params, h_gen: jax.Array) -> jax.Array:
        """Final gen states [..., width] -> float32 velocities [..., p*p*C]."""
        return self.llm2vae.apply({"params": params["llm2vae"]}, h_gen)

    def clean_latents(self, params: Params, batch: PackedBatch, draws: Draws) -> jax.Array:
        """The scaled clean latent token of every gen slot [R, G, p*p*C]: given, sampled from moments, or encoded."""
        cfg, gen = self.config, batch["gen"]
        if "latents" in gen:
            return gen["latents"].astype(jnp.float32)
        if "moments" in gen:
            mean, logvar = jnp.split(gen["moments"].astype(jnp.float32), 2, axis=-1)
            return self.sample_latent(mean, logvar, draws["vae"]["moments"])
        z0 = jnp.zeros((*gen["sample"].shape, cfg.latent_width), jnp.float32)
        frozen = jax.lax.stop_gradient({"vae": params["vae"]})
        for name in canvases_of(batch):
            pixels, pointer = batch[PIXELS + name]["pixels"], gen["picture:" + name]
            rows, count = pixels.shape[:2]
            if count == 0:
                continue
            moments = self.encode_moments(frozen, pixels.reshape(rows * count, *pixels.shape[2:]))
            mean, logvar = jnp.split(moments, 2, axis=-1)
            z = self.sample_latent(mean, logvar, draws["vae"][name].reshape(mean.shape))
            tokens = patchify_latents(z, cfg.latent_patch_size)
            per_picture = tokens.shape[1]
            tokens = tokens.reshape(rows, count * per_picture, cfg.latent_width)
            found = _rows(tokens, pointer * per_picture + gen["token"])
            z0 = jnp.where((pointer >= 0)[..., None], found, z0)
        return jax.lax.stop_gradient(z0)

    def noisy(self, batch: PackedBatch) -> jax.Array:
        """bool [R, G]: the slots that carry flow loss."""
        return (batch["gen"]["noisy"] > 0) & (batch["gen"]["sample"] > 0)

    def times(self, gen: Mapping[str, jax.Array], raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Raw draws [R, G] -> time of every gen slot (0 where clean) and which slots are noisy, both [R, G]."""
        noisy = (gen["noisy"] > 0) & (gen["sample"] > 0)
        own = jnp.take_along_axis(raw, gen["time"], axis=1)
        t = shift_time(jax.nn.sigmoid(own.astype(jnp.float32)), self.config.timestep_shift)
        return jnp.where(noisy, t, 0.0), noisy

    # -- Training forward ----------------------------------------------------------------------------------------------

    def forward(
        self, params: Params, batch: PackedBatch, draws: Draws, capture: Sequence[str] = ()
    ) -> dict[str, jax.Array]:
        """One training forward.

        Args:
          params: as from `init`.
          batch: lanes; see sgt_jax/data/layouts/bagel.py.
          draws: as from `draw`.
          capture: names of inner states to return too: those of `Decoder.__call__`, and "vit_out", "connector_out",
            "clean_latents", "noisy_latents".

        Returns:
          logits float32 [R, L, vocabulary]; velocity and velocity_target float32 [R, G, p*p*C]; t float32 [R, G]; noisy
          bool [R, G], the slots that carry flow loss; and what was captured.
        """
        gen, und, labels = batch["gen"], batch["und"], batch["labels"]
        seen = self.see(params, batch["vit"]) if batch["vit"]["sample"].shape[1] else None
        x_und = self.embed_und(params, und, seen["tokens"] if seen else None)

        z0 = self.clean_latents(params, batch, draws)
        t, noisy = self.times(gen, draws["time"])
        noise = draws["noise"]
        x_t = (1 - t[..., None]) * z0 + t[..., None] * noise
        x_gen = self.embed_gen(params, x_t, t, gen["table"])

        h_und, h_gen, aux = self.decode(
            params, x_und, x_gen, TokenInfo.of(und), TokenInfo.of(gen), capture=tuple(capture)
        )
        # Labels are cut up like slots, but each may need any slot of its row.
        answering = _rows(constrain(h_und, "rows", None, None), labels["slot"])
        logits = self.logits(params, constrain(answering, "rows", "slots", None))
        outputs = {
            "logits": constrain(logits, "rows", "slots", "vocab"),
            "velocity": self.velocity(params, h_gen),
            "velocity_target": noise - z0,
            "t": t,
            "noisy": noisy,
        }
        own = dict(seen or {}, clean_latents=z0, noisy_latents=x_t)
        return outputs | {name: own[name] for name in capture if name in own} | aux
