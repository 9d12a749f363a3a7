"""The autoencoder's parameters under the names of FLUX's published ae.safetensors."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath
from safetensors.numpy import load_file

from sgt_jax.checkpoints.entries import Entry, from_published, norm_entries
from sgt_jax.models.autoencoder.model import AutoencoderConfig

VAE_FILE = "ae.safetensors"


def _conv(name: str, path: tuple[str, ...], inputs: int, outputs: int, size: int = 3) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", VAE_FILE, (outputs, inputs, size, size), (*path, "kernel"), "conv")
    yield Entry(f"{name}.bias", VAE_FILE, (outputs,), (*path, "bias"))


def _vae_block(name: str, path: tuple[str, ...], inputs: int, outputs: int) -> Iterator[Entry]:
    yield from norm_entries(f"{name}.norm1", VAE_FILE, inputs, (*path, "norm1"))
    yield from _conv(f"{name}.conv1", (*path, "conv1"), inputs, outputs)
    yield from norm_entries(f"{name}.norm2", VAE_FILE, outputs, (*path, "norm2"))
    yield from _conv(f"{name}.conv2", (*path, "conv2"), outputs, outputs)
    if inputs != outputs:
        yield from _conv(f"{name}.nin_shortcut", (*path, "nin_shortcut"), inputs, outputs, 1)


def _vae_middle(half: str, width: int) -> Iterator[Entry]:
    name, path = f"{half}.mid", ("vae", half, "mid")
    yield from _vae_block(f"{name}.block_1", (*path, "block_1"), width, width)
    yield from norm_entries(f"{name}.attn_1.norm", VAE_FILE, width, (*path, "attn_1", "norm"))
    for m in ("q", "k", "v", "proj_out"):
        yield from _conv(f"{name}.attn_1.{m}", (*path, "attn_1", m), width, width, 1)
    yield from _vae_block(f"{name}.block_2", (*path, "block_2"), width, width)


def _vae_ends(half: str, inputs: int, first: int, last: int, outputs: int) -> Iterator[Entry]:
    yield from _conv(f"{half}.conv_in", ("vae", half, "conv_in"), inputs, first)
    yield from norm_entries(f"{half}.norm_out", VAE_FILE, last, ("vae", half, "norm_out"))
    yield from _conv(f"{half}.conv_out", ("vae", half, "conv_out"), last, outputs)


def vae_entries(vae: AutoencoderConfig) -> list[Entry]:
    """All published tensors of an autoencoder of these sizes, in the order of our tree."""
    return list(_vae(vae))


def _vae(vae: AutoencoderConfig) -> Iterator[Entry]:
    widths = [vae.ch * m for m in vae.ch_mult]
    last = len(widths) - 1
    yield from _vae_ends("encoder", vae.in_channels, vae.ch, widths[-1], 2 * vae.z_channels)
    yield from _vae_middle("encoder", widths[-1])
    yield from _vae_ends("decoder", vae.z_channels, widths[-1], widths[0], vae.out_ch)
    yield from _vae_middle("decoder", widths[-1])
    for l, width in enumerate(widths):
        # Going down a level starts with the finer level's channels; going up, with the coarser level's.
        for half, way, count, inputs in (
            ("encoder", "down", vae.num_res_blocks, widths[max(l - 1, 0)] if l else vae.ch),
            ("decoder", "up", vae.num_res_blocks + 1, widths[min(l + 1, last)]),
        ):
            for b in range(count):
                path = ("vae", half, f"{way}_{l}", f"block_{b}")
                yield from _vae_block(f"{half}.{way}.{l}.block.{b}", path, inputs if b == 0 else width, width)
            if l != (last if way == "down" else 0):
                path = ("vae", half, f"{way}_{l}", f"{way}sample", "conv")
                yield from _conv(f"{half}.{way}.{l}.{way}sample.conv", path, width, width)


def load_vae(path: Any, config: AutoencoderConfig) -> dict[str, Any]:
    """The autoencoder's parameters: what belongs at params["vae"]."""
    return from_published(load_file(epath.Path(path)), vae_entries(config))["vae"]


def fingerprint(path: Any) -> str:
    """A text that two ae.safetensors share if and only if their encoders hold the same numbers, in whatever dtype."""
    digest = hashlib.sha256()
    tensors = load_file(epath.Path(path))
    for name in sorted(name for name in tensors if name.startswith("encoder.")):
        digest.update(name.encode() + np.asarray(tensors[name], np.float32).tobytes())
    return digest.hexdigest()[:16]
