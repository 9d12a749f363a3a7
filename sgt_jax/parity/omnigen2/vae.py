"""Parity section "vae": the autoencoder's two halves level by level, its posterior, and pictures as it reads them."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from sgt_jax.data.pictures.resizing import ResizeRule, transform
from sgt_jax.models.autoencoder.model import Autoencoder
from sgt_jax.parity.checks import Check
from sgt_jax.parity.omnigen2.folder import Folder

FILE = "vae.npz"
STRIDE = 16  # pixels: the pipeline makes sides multiples of it


def vae(folder: Folder) -> Iterator[Check]:
    """Everything in vae.npz."""
    recorded = folder.arrays(FILE)
    params, config = folder.vae
    model = Autoencoder(config, precision=jax.lax.Precision.HIGHEST)
    check = functools.partial(folder.check, "vae", FILE)

    limits = int(recorded["preprocess.max_side_length"]), int(recorded["preprocess.max_pixels"])
    picture = transform(recorded["image_uint8"], ResizeRule(STRIDE, STRIDE, *limits, rule="floor"))[None]
    yield check("preprocess.output", first(picture))

    pixels = recorded["preprocess.output"].transpose(0, 2, 3, 1)
    moments, inner = observed(model, "encode")(params, pixels)
    yield from _levels(folder, inner["encoder"], {f"encoder.down_blocks.{i}": f"down_{i}" for i in levels(config)})
    yield check("act.encoder.mid_block", first(inner["encoder"]["mid"]["__call__"][0]))
    yield check("encode.moments", first(moments))
    mean, logvar = np.split(first(moments), 2, axis=1)
    std = np.exp(np.clip(logvar, -30, 20) / 2)
    yield check("encode.mean", mean)
    yield check("encode.logvar", logvar)
    yield check("encode.std", std)
    scaled = (mean + std * recorded["encode.eps"] - config.shift_factor) * config.scale_factor
    yield check("encode.scaled_sample", scaled)

    latent = recorded["decode.latent_scaled"].transpose(0, 2, 3, 1)
    image, inner = observed(model, "decode")(params, latent / config.scale_factor + config.shift_factor)
    yield check("act.decoder.mid_block", first(inner["decoder"]["mid"]["__call__"][0]))
    # Levels are numbered from the finest here, from the coarsest there.
    last = len(config.ch_mult) - 1
    yield from _levels(folder, inner["decoder"], {f"decoder.up_blocks.{last - i}": f"up_{i}" for i in levels(config)})
    yield check("decode.image", first(image))


def observed(model: Autoencoder, method: str) -> Any:
    """Compiled: (parameters, input) -> (output, what every module inside gave)."""

    @jax.jit
    def run(params: Any, x: Any) -> Any:
        out, state = model.apply({"params": params}, x, method=method, capture_intermediates=True)
        return out, state["intermediates"]

    return run


def levels(config: Any) -> range:
    """Numbers of the autoencoder's levels, from the finest."""
    return range(len(config.ch_mult))


def first(x: Any) -> np.ndarray:
    """Channels last -> channels first, as recorded."""
    return np.asarray(x).transpose(0, 3, 1, 2)


def _levels(folder: Folder, inner: Any, names: dict[str, str]) -> Iterator[Check]:
    for theirs, ours in names.items():
        if f"act.{theirs}" in folder.arrays(FILE):
            yield folder.check("vae", FILE, f"act.{theirs}", first(inner[ours]["__call__"][0]))
