"""The autoencoder's parameters under the names of FLUX's published ae.safetensors."""

import hashlib
import os
from typing import Any

import jax
import numpy as np

from sgt_jax.checkpoints import importing
from sgt_jax.checkpoints.importing import Sharding
from sgt_jax.checkpoints.names import Named, NameMap, conv, norm
from sgt_jax.checkpoints.safetensors import Weights
from sgt_jax.models.autoencoder.model import AutoencoderConfig

VAE_FILE = "ae.safetensors"


def load_vae(
    path: str | os.PathLike, config: AutoencoderConfig, *, sharding: Sharding | None = None, dtype: Any = "float32"
) -> dict[str, jax.Array]:
    """The parameters of `Autoencoder(config)` from one ae.safetensors; `dtype` None keeps the file's.

    Raises:
      CheckpointError: the file is absent, damaged or of another autoencoder; all names that are wrong are listed.
    """
    names = vae_names(config)
    with importing.Files([Weights(path)]) as files:
        importing.check_names(path, files.tensors, names)
        return importing.load_tree(files, names, sharding, dtype)


def fingerprint(path: str | os.PathLike) -> str:
    """A text that two ae.safetensors share if and only if their encoders hold the same numbers, in whatever dtype."""
    digest = hashlib.sha256()
    with importing.Files([Weights(path)]) as files:
        for name in sorted(name for name in files.tensors if name.startswith("encoder.")):
            digest.update(name.encode() + files.read(name).astype(np.float32).tobytes())
    return digest.hexdigest()[:16]


def vae_names(config: AutoencoderConfig) -> NameMap:
    """Where every tensor of an ae.safetensors lives in the parameters of our `Autoencoder`."""
    return dict(_vae(config))


def _vae(vae: AutoencoderConfig) -> Named:
    widths = [vae.ch * m for m in vae.ch_mult]
    last = len(widths) - 1
    yield from _ends("encoder", vae.in_channels, vae.ch, widths[-1], 2 * vae.z_channels)
    yield from _middle("encoder", widths[-1])
    yield from _ends("decoder", vae.z_channels, widths[-1], widths[0], vae.out_ch)
    yield from _middle("decoder", widths[-1])
    for l, width in enumerate(widths):
        # Going down a level starts with the finer level's channels; going up, with the coarser level's.
        for half, way, count, inputs in (
            ("encoder", "down", vae.num_res_blocks, widths[max(l - 1, 0)] if l else vae.ch),
            ("decoder", "up", vae.num_res_blocks + 1, widths[min(l + 1, last)]),
        ):
            name, path = f"{half}.{way}.{l}", f"{half}/{way}_{l}"
            for b in range(count):
                yield from _block(f"{name}.block.{b}", f"{path}/block_{b}", inputs if b == 0 else width, width)
            if l != (last if way == "down" else 0):
                yield from conv(f"{name}.{way}sample.conv", f"{path}/{way}sample/conv", width, width)


def _block(name: str, path: str, inputs: int, outputs: int) -> Named:
    yield from norm(f"{name}.norm1", f"{path}/norm1", inputs)
    yield from conv(f"{name}.conv1", f"{path}/conv1", inputs, outputs)
    yield from norm(f"{name}.norm2", f"{path}/norm2", outputs)
    yield from conv(f"{name}.conv2", f"{path}/conv2", outputs, outputs)
    if inputs != outputs:
        yield from conv(f"{name}.nin_shortcut", f"{path}/nin_shortcut", inputs, outputs, 1)


def _middle(half: str, width: int) -> Named:
    name, path = f"{half}.mid", f"{half}/mid"
    yield from _block(f"{name}.block_1", f"{path}/block_1", width, width)
    yield from norm(f"{name}.attn_1.norm", f"{path}/attn_1/norm", width)
    for m in ("q", "k", "v", "proj_out"):
        yield from conv(f"{name}.attn_1.{m}", f"{path}/attn_1/{m}", width, width, 1)
    yield from _block(f"{name}.block_2", f"{path}/block_2", width, width)


def _ends(half: str, inputs: int, first: int, last: int, outputs: int) -> Named:
    yield from conv(f"{half}.conv_in", f"{half}/conv_in", inputs, first)
    yield from norm(f"{half}.norm_out", f"{half}/norm_out", last)
    yield from conv(f"{half}.conv_out", f"{half}/conv_out", last, outputs)
