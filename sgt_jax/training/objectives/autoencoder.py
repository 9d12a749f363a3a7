"""Trains the autoencoder alone: reconstruction of photos and painted targets, with a weak KL term."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from sgt_jax.batch import PIXELS, PackedBatch
from sgt_jax.data.examples import PlanItem
from sgt_jax.data.packing import Field, Lanes
from sgt_jax.models.autoencoder.model import to_unit_range
from sgt_jax.models.family import Model, Params
from sgt_jax.training.objectives import Metrics, Objective


@dataclasses.dataclass(frozen=True)
class PicturesOnly:
    """A layout of only the pictures that the autoencoder would see."""

    canvases: tuple[tuple[int, int], ...]

    @property
    def spec(self) -> dict[str, dict[str, Field]]:
        return {f"{PIXELS}{h}x{w}": {"pixels": Field("uint8", (h, w, 3))} for h, w in self.canvases}

    def lay_out(self, plan: tuple[PlanItem, ...], uniform: Any = None, name: str = "") -> Lanes:
        lanes: dict[str, list] = {}
        for item in plan:
            if item.type == "vae_image":
                lanes.setdefault(f"{PIXELS}{item.data.shape[0]}x{item.data.shape[1]}", []).append(item.data)
        return {lane: {"pixels": np.stack(pictures)} for lane, pictures in lanes.items()}


def loss(
    params: Params, batch: PackedBatch, key: jax.Array, model: Model, part: None = None, *, settings: ConfigDict
) -> tuple[jax.Array, Metrics]:
    """Squared error + settings.l1_weight * absolute error + settings.kl_weight * KL divergence, mean over canvases."""
    sums = []
    for number, (_, fields) in enumerate(sorted(batch.items())):
        pixels = fields["pixels"]
        x = to_unit_range(pixels.reshape(-1, *pixels.shape[2:]))
        mean, logvar = jnp.split(model.encode_moments(params, x), 2, axis=-1)
        noise = jax.random.normal(jax.random.fold_in(key, number), mean.shape)
        out = model.decode_latent(params, mean + jnp.exp(logvar / 2) * noise)
        kl = 0.5 * jnp.mean(mean**2 + jnp.exp(logvar) - 1 - logvar)
        sums.append(jnp.stack([jnp.mean((out - x) ** 2), jnp.mean(jnp.abs(out - x)), kl]))
    mse, mae, kl = jnp.mean(jnp.stack(sums), axis=0)
    total = mse + settings.l1_weight * mae + settings.kl_weight * kl
    return total, {"mse": mse, "mae": mae, "kl": kl, "psnr": -10 * jnp.log10(mse / 4)}


def _pictures(batch: PackedBatch, lanes: Sequence[str]) -> int:
    return sum(fields["pixels"].shape[0] * fields["pixels"].shape[1] for fields in batch.values())


OBJECTIVE = Objective(loss, _pictures, branch="vae", layout=PicturesOnly, accumulates=False, counted=False)
