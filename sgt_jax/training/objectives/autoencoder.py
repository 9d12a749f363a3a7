"""Trains the autoencoder alone: reconstruction of photos and painted targets, with a weak KL term."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.data.examples import PlanItem
from sgt_jax.data.packing import Field, Lanes
from sgt_jax.models.autoencoder.model import to_unit_range
from sgt_jax.training.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class _PicturesOnly:
    """A layout for training the autoencoder: only the pictures that the VAE would see."""

    canvases: tuple[tuple[int, int], ...]

    @property
    def spec(self) -> dict[str, dict[str, Field]]:
        return {f"pixels:{h}x{w}": {"pixels": Field("uint8", (h, w, 3))} for h, w in self.canvases}

    def lay_out(self, plan: tuple[PlanItem, ...], uniform: Any = None, name: str = "") -> Lanes:
        lanes: dict[str, list] = {}
        for item in plan:
            if item.type == "vae_image":
                lanes.setdefault(f"pixels:{item.data.shape[0]}x{item.data.shape[1]}", []).append(item.data)
        return {lane: {"pixels": np.stack(pictures)} for lane, pictures in lanes.items()}


class AutoencoderExperiment(Experiment):
    """Trains the autoencoder alone: reconstruction of photos and painted targets, with a weak KL term."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if config.accumulate != 1:
            raise ValueError("config.accumulate must be 1: the autoencoder's objective is not made for micro-batches")
        self.layout = _PicturesOnly(self.canvases)

    def init(self, key: jax.Array) -> Any:
        return {"vae": self.model.init(key)["vae"]}

    def loss(self, params: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        settings, sums = self.config.objective, []
        for number, (_, fields) in enumerate(sorted(batch.items())):
            pixels = fields["pixels"]
            x = to_unit_range(pixels.reshape(-1, *pixels.shape[2:]))
            moments = self.model.encode_moments(params, x)
            mean, logvar = jnp.split(moments, 2, axis=-1)
            noise = jax.random.normal(jax.random.fold_in(key, number), mean.shape)
            out = self.model.decode_latent(params, mean + jnp.exp(logvar / 2) * noise)
            kl = 0.5 * jnp.mean(mean**2 + jnp.exp(logvar) - 1 - logvar)
            sums.append(jnp.stack([jnp.mean((out - x) ** 2), jnp.mean(jnp.abs(out - x)), kl]))
        mse, mae, kl = jnp.mean(jnp.stack(sums), axis=0)
        loss = mse + settings.l1_weight * mae + settings.kl_weight * kl
        return loss, {"mse": mse, "mae": mae, "kl": kl, "psnr": -10 * jnp.log10(mse / 4)}

    def tokens(self, batch: Any) -> int:
        return sum(fields["pixels"].shape[0] * fields["pixels"].shape[1] for fields in batch.values())
