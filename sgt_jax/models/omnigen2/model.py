"""OmniGen2 as pure functions: fresh parameters, random draws, and one training forward over lanes.

The language model reads lanes "vit" and "und"; its final states become the features of lane "text", through which the flow
loss reaches it, too. Time runs from 0 (noise) to 1 (data). Lanes and fields: sgt_jax/data/layouts/omnigen2.py.

Shapes: R rows, U und slots, T text slots, K ref slots, G gen slots, F flows (noisy pictures), L labels; p latent patch, C
latent channels.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sgt_jax.batch import PIXELS, PackedBatch, canvases_of
from sgt_jax.models.autoencoder.model import Autoencoder, fresh_parameters, to_unit_range
from sgt_jax.models.layers import normal, patchify_latents, shift_time, unpatchify_latents
from sgt_jax.models.omnigen2.config import OmniGen2Config
from sgt_jax.models.omnigen2.dit import Dit, Lane
from sgt_jax.models.omnigen2.mllm.model import Mllm
from sgt_jax.models.stack import unstacked
from sgt_jax.parallel.partitioning import constrain, whole

Params = Mapping[str, Any]
Draws = Mapping[str, Any]

# The training law of times: log of the shift, linear in the picture's latent tokens between these two points.
_SHIFT_TOKENS, _SHIFT_LOGS = (256, 4096), (0.5, 1.15)
STACKS = ("context_refiner", "noise_refiner", "ref_image_refiner", "joint")
_LATENT_LANES = ("ref", "gen")


def training_shift(tokens: Any) -> Any:
    """The shift of training times of a picture of so many latent tokens (quarters of its latent cells)."""
    low, high = _SHIFT_TOKENS
    slope = (_SHIFT_LOGS[1] - _SHIFT_LOGS[0]) / (high - low)
    return jnp.exp(_SHIFT_LOGS[0] + (tokens - low) * slope)


def shifted_time(t: Any, shift: Any) -> Any:
    """Moves times in [0, 1] towards 0, the noise, for shift > 1; keeps 0 and 1."""
    return shift_time(t, 1 / shift)


@functools.partial(jax.jit, static_argnums=0)
def _fresh(config: OmniGen2Config, key: jax.Array) -> dict[str, Any]:
    """Traced once for a config, however often a process asks: for shapes, for values, by another run."""
    return OmniGen2(config)._init(key)


class OmniGen2:
    """An OmniGen2 model; holds no arrays. Parameters are one tree with the branches "mllm", "dit" and "vae"."""

    def __init__(self, config: OmniGen2Config) -> None:
        self.config = config
        self.vae = Autoencoder(config.vae, dtype=config.compute_dtype, precision=config.precision)
        self.mllm = Mllm(config)
        self.dit = Dit(config)

    # -- Parameters ----------------------------------------------------------------------------------------------------

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh float32 parameters; the transformer then predicts velocity 0."""
        # What says how to compute, and not what, asks for no trace of its own.
        neutral = dict(remat="none", attention="xla", attention_block=512, freeze_mllm=False, template="official")
        return _fresh(self.config.replace(**neutral, min_pixels=0, max_pixels=0), key)

    def _init(self, key: jax.Array) -> dict[str, Any]:
        vae_key, mllm_key, dit_key = jax.random.split(key, 3)
        # Drawn in stacked form always, so that both forms start from equal values.
        cfg = self.config.replace(scan_layers=True, remat="none", attention="xla")
        facts = {name: jnp.zeros((1, 1), jnp.int32) for name in ("sample", "split", "flow", "index")}
        facts["position"] = jnp.zeros((1, 1, 3), jnp.int32)
        features, token = jnp.zeros((1, 1, cfg.dit.text_feat_dim)), jnp.zeros((1, 1, cfg.latent_width))
        lanes = dict.fromkeys(("text", "ref", "gen"), facts)
        dit = Dit(cfg).init(dit_key, features, token, token, jnp.zeros((1, 1)), lanes)["params"]
        if not self.config.scan_layers:
            dit |= {name: unstacked(dit[name]) for name in STACKS}
        return {
            "vae": fresh_parameters(self.vae, vae_key),
            "mllm": self.mllm.init(mllm_key),
            "dit": dit,
        }

    # -- Randomness ----------------------------------------------------------------------------------------------------

    def draw(self, key: jax.Array, batch: PackedBatch) -> dict[str, Any]:
        """Everything random in one forward of `batch`.

        Returns:
          {"time": [R, F] normals, "noise": [R, G, p*p*C] normals, "vae": posterior normals: {"HxW": [R, n, h, w, C]}
          per canvas lane, {"gen" and "ref": [R, S, p*p*C]} where these lanes bring moments}.
        """
        cfg = self.config
        rows, slots = batch["gen"]["sample"].shape
        time_key, noise_key, vae_key = jax.random.split(key, 3)
        shapes = {}
        for name, size in canvases_of(batch).items():
            count = batch[PIXELS + name]["pixels"].shape[1]
            shapes[name] = (rows, count, *(side // cfg.vae.downsample for side in size), cfg.vae.z_channels)
        for lane in _LATENT_LANES:
            if "moments" in batch.get(lane, {}):
                shapes[lane] = (*batch[lane]["sample"].shape, cfg.latent_width)
        return {
            "time": normal(time_key, batch["flow"]["sample"].shape, lead=1),
            "noise": normal(noise_key, (rows, slots, cfg.latent_width), lead=1),
            "vae": {
                name: normal(jax.random.fold_in(vae_key, i), shape, lead=1)
                for i, (name, shape) in enumerate(sorted(shapes.items()))
            },
        }

    def times(self, flow: Lane, normals: jax.Array) -> jax.Array:
        """Normals [R, F] -> times of the noisy pictures, float32 [R, F]."""
        t = jax.nn.sigmoid(normals.astype(jnp.float32))
        return shifted_time(t, training_shift(flow["tokens"].astype(jnp.float32)))

    # -- Autoencoder ---------------------------------------------------------------------------------------------------

    def encode_moments(self, params: Params, pixels: jax.Array) -> jax.Array:
        """[N, H, W, 3], uint8 or in [-1, 1] -> moments [N, h, w, 2C], mean channels first."""
        return self.vae.apply({"params": whole(params["vae"])}, to_unit_range(pixels), method="encode")

    def decode_latent(self, params: Params, z: jax.Array) -> jax.Array:
        """Unscaled latents [N, h, w, C] -> pictures [N, H, W, 3], about in [-1, 1]."""
        return self.vae.apply({"params": whole(params["vae"])}, z, method="decode")

    def scale_latent(self, z: jax.Array) -> jax.Array:
        """Unscaled -> scaled latents, as the transformer sees them."""
        return self.config.vae.scale_factor * (z - self.config.vae.shift_factor)

    def unscale_latent(self, z: jax.Array) -> jax.Array:
        """Scaled -> unscaled latents."""
        return z / self.config.vae.scale_factor + self.config.vae.shift_factor

    def sample_latent(self, mean: jax.Array, logvar: jax.Array, noise: jax.Array) -> jax.Array:
        """A draw from the posterior, scaled. Any shape."""
        return self.scale_latent(mean + jnp.exp(jnp.clip(logvar, -30, 20) / 2) * noise)

    def pictures(self, params: Params, tokens: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """Clean latent tokens [N, rows*columns, p*p*C] (scaled) -> pictures [N, H, W, 3], about in [-1, 1]."""
        return self.decode_latent(
            params, self.unscale_latent(unpatchify_latents(tokens, grid, self.config.dit.patch_size))
        )

    def clean_latents(self, params: Params, batch: PackedBatch, draws: Draws | None) -> dict[str, jax.Array]:
        """{lane: scaled latent tokens [R, S, p*p*C]} of lanes "ref" and "gen": given, drawn from moments, or encoded.

        Without draws each latent is the mean of its posterior.
        """
        found = {}
        canvases = None
        for name in _LATENT_LANES:
            lane = batch.get(name)
            if lane is None:
                found[name] = jnp.zeros((batch["gen"]["sample"].shape[0], 0, self.config.latent_width))
            elif "latents" in lane:
                found[name] = lane["latents"].astype(jnp.float32)
            elif "moments" in lane:
                mean, logvar = jnp.split(lane["moments"].astype(jnp.float32), 2, axis=-1)
                found[name] = self.sample_latent(mean, logvar, draws["vae"][name] if draws else 0.0)
            else:
                canvases = self._canvas_tokens(params, batch, draws) if canvases is None else canvases
                found[name] = self._picked(lane, canvases)
        return jax.lax.stop_gradient(found)

    def _canvas_tokens(self, params: Params, batch: PackedBatch, draws: Draws | None) -> dict[str, jax.Array]:
        """{"HxW": latent tokens [R, n, tokens, p*p*C]} of all canvases, each encoded once."""
        frozen, tokens = jax.lax.stop_gradient({"vae": params["vae"]}), {}
        for name in canvases_of(batch):
            pixels = batch[PIXELS + name]["pixels"]
            rows, count = pixels.shape[:2]
            if count:
                moments = self.encode_moments(frozen, pixels.reshape(rows * count, *pixels.shape[2:]))
                mean, logvar = jnp.split(moments, 2, axis=-1)
                noise = draws["vae"][name].reshape(mean.shape) if draws else 0.0
                z = self.sample_latent(mean, logvar, noise)
                patched = patchify_latents(z, self.config.dit.patch_size)
                tokens[name] = patched.reshape(rows, count, *patched.shape[1:])
        return tokens

    def _picked(self, lane: Lane, canvases: Mapping[str, jax.Array]) -> jax.Array:
        z = jnp.zeros((*lane["sample"].shape, self.config.latent_width), jnp.float32)
        for name, tokens in canvases.items():
            rows, count, per_picture, width = tokens.shape
            pointer = lane["picture:" + name]
            at = jnp.maximum(pointer * per_picture + lane["token"], 0)
            picked = jnp.take_along_axis(tokens.reshape(rows, count * per_picture, width), at[..., None], axis=1)
            z = jnp.where((pointer >= 0)[..., None], picked, z)
        return z

    # -- Parts of the forward, for sampling too ------------------------------------------------------------------------

    def understand(self, params: Params, batch: PackedBatch) -> jax.Array:
        """The language model over lanes "vit" and "und" -> states [R, U, T] after its final norm."""
        vit = batch.get("vit")
        seen = self.mllm.see(params["mllm"], vit) if vit is not None and vit["sample"].shape[1] else None
        return self.mllm.hidden(params["mllm"], self.pointing(batch["und"]), seen)

    def pointing(self, und: Lane) -> Lane:
        """Lane "und" with "image", the seen cell of every image token, from "vit", the first patch of that cell."""
        cell = self.config.vision.spatial_merge_size**2
        return und if "image" in und else {**und, "image": jnp.where(und["vit"] >= 0, und["vit"] // cell, -1)}

    def features(self, h: jax.Array, lane: Lane) -> jax.Array:
        """States [R, U, T] -> the features of lane "text", [R, T, width]."""
        h = jax.lax.stop_gradient(h) if self.config.freeze_mllm else h
        picked = jnp.take_along_axis(constrain(h, "rows", None, None), lane["slot"][..., None], axis=1)
        return constrain(picked, "rows", "slots", None)

    # -- Training forward ----------------------------------------------------------------------------------------------

    def noisy(self, batch: PackedBatch) -> jax.Array:
        """bool [R, G]: the slots that carry flow loss: all of lane "gen"."""
        return batch["gen"]["sample"] > 0

    def flow(
        self, params: Params, features: jax.Array, batch: PackedBatch, draws: Draws, capture: Sequence[str] = ()
    ) -> dict[str, jax.Array]:
        """The flow-matching half of `forward`, after features [R, T, width]."""
        latents = self.clean_latents(params, batch, draws)
        gen, noise, x1 = batch["gen"], draws["noise"], latents["gen"]
        t = draws["t"] if "t" in draws else self.times(batch["flow"], draws["time"])
        own = jnp.take_along_axis(t, gen["flow"], axis=1)[..., None]
        x_t = own * x1 + (1 - own) * noise
        lanes = {"text": batch["text"], "gen": gen, "ref": batch.get("ref", gen)}
        velocity, aux = self.dit.apply(
            {"params": params["dit"]}, features, latents["ref"], x_t, t, lanes, tuple(capture)
        )
        outputs = {
            "velocity": velocity, "velocity_target": x1 - noise, "t": own[..., 0], "noisy": self.noisy(batch)
        }  # fmt: skip
        own_states = {"clean_latents": x1, "noisy_latents": x_t}
        return outputs | {name: own_states[name] for name in capture if name in own_states} | aux

    def forward(
        self, params: Params, batch: PackedBatch, draws: Draws, capture: Sequence[str] = ()
    ) -> dict[str, jax.Array]:
        """One training forward.

        Args:
          draws: as from `draw`; "t" [R, F], where there, are times to take instead.
          capture: names of inner states to return, too: those of `Dit.__call__`, "features", "clean_latents" and
            "noisy_latents".

        Returns:
          logits float32 [R, L, vocabulary]; velocity and velocity_target float32 [R, G, p*p*C]; t float32 [R, G]; noisy
          bool [R, G]; and what was captured.
        """
        h = self.understand(params, batch)
        features = self.features(h, batch["text"])
        outputs = self.flow(params, features, batch, draws, capture)
        # Logits of supervised slots only: the vocabulary is wide.
        at = batch["labels"]["slot"][..., None]
        answering = jnp.take_along_axis(constrain(h, "rows", None, None), at, axis=1)
        logits = self.mllm.logits(params["mllm"], constrain(answering, "rows", "slots", None))
        outputs["logits"] = constrain(logits, "rows", "slots", "vocab")
        return outputs | ({"features": features} if "features" in capture else {})
