"""OmniGen2's published tensors against our parameters; so far its autoencoder, named as diffusers names it.

The autoencoder is the one of `sgt_jax/models/autoencoder/model.py`: only names, the order of the decoder's levels and the
form of the attention's projections (linear instead of 1x1 convolutions) differ from BAGEL's file.
"""

import os
from typing import Any

from sgt_jax.checkpoints import importing
from sgt_jax.checkpoints.header import shown, strict_json
from sgt_jax.checkpoints.importing import Sharding
from sgt_jax.checkpoints.names import Named, NameMap, conv, linear_as_conv, norm
from sgt_jax.checkpoints.safetensors import Weights
from sgt_jax.errors import CheckpointError
from sgt_jax.models.autoencoder.model import AutoencoderConfig

VAE_FILE = "diffusion_pytorch_model.safetensors"
_COUNTS = ("layers_per_block", "latent_channels", "in_channels", "out_channels", "sample_size", "norm_num_groups")
# What our autoencoder takes for granted.
_FIXED = {"act_fn": "silu", "mid_block_add_attention": True, "use_quant_conv": False, "use_post_quant_conv": False}


def vae_config(folder: str | os.PathLike) -> AutoencoderConfig:
    """The config of a diffusers `AutoencoderKL` folder.

    Raises:
      CheckpointError: `config.json` is absent, damaged, or describes an autoencoder that ours cannot be.
    """
    path = os.path.join(folder, "config.json")
    try:
        with open(path, "rb") as file:
            values = strict_json(path, file.read(1 << 20), "text")
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror}).", "Give the vae/ folder.") from None
    try:
        for name, wanted in _FIXED.items():
            if values.get(name, wanted) != wanted:
                raise CheckpointError(path, f"has {name} {values[name]}.", f"Only {wanted} is supported.")
        channels = values["block_out_channels"]
        for name, counts in (("block_out_channels", channels), *((name, [values[name]]) for name in _COUNTS)):
            if not isinstance(counts, list) or not counts or any(type(n) is not int or n < 1 for n in counts):
                raise CheckpointError(path, f"has {name} {shown(values[name])}, which is not possible.", "Correct the file.")
        if any(width % channels[0] for width in channels):
            raise CheckpointError(path, f"has block_out_channels {channels}.", "They must be multiples of the first.")
        return AutoencoderConfig(
            ch=channels[0],
            ch_mult=tuple(width // channels[0] for width in channels),
            num_res_blocks=values["layers_per_block"],
            z_channels=values["latent_channels"],
            in_channels=values["in_channels"],
            out_ch=values["out_channels"],
            scale_factor=values["scaling_factor"],
            shift_factor=values.get("shift_factor") or 0.0,
            resolution=values["sample_size"],
            norm_groups=values["norm_num_groups"],
        )
    except KeyError as error:
        raise CheckpointError(path, f"lacks {error}.", "Take the file of the release.") from None
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(path, f"does not describe an autoencoder: {error}.", "Check the folder.") from None


def load_vae(
    folder: str | os.PathLike, *, sharding: Sharding | None = None, dtype: Any = None
) -> tuple[dict[str, Any], AutoencoderConfig]:
    """(parameters of `Autoencoder(config)`, config) of a diffusers `vae/` folder; see `importing.load_leaf`.

    Raises:
      CheckpointError: files are absent, damaged or of another model.
    """
    config = vae_config(folder)
    path = os.path.join(folder, VAE_FILE)
    if not os.path.exists(path) and os.path.exists(path + ".index.json"):
        path += ".index.json"
    names = vae_names(config)
    with importing.Files([Weights(path)]) as files:
        importing.check_names(folder, files.tensors, names)
        return importing.load_tree(files, names, sharding, dtype), config


def vae_names(config: AutoencoderConfig) -> NameMap:
    """Where every tensor of a diffusers `AutoencoderKL` lives in the parameters of our `Autoencoder`."""
    return dict(_vae(config))


def _vae(config: AutoencoderConfig) -> Named:
    widths = [config.ch * m for m in config.ch_mult]
    last = len(widths) - 1
    yield from conv("encoder.conv_in", "encoder/conv_in", config.in_channels, widths[0])
    yield from conv("encoder.conv_out", "encoder/conv_out", widths[-1], 2 * config.z_channels)
    yield from conv("decoder.conv_in", "decoder/conv_in", config.z_channels, widths[-1])
    yield from conv("decoder.conv_out", "decoder/conv_out", widths[0], config.out_ch)
    for half, width in (("encoder", widths[-1]), ("decoder", widths[0])):
        yield from norm(f"{half}.conv_norm_out", f"{half}/norm_out", width)
        yield from _middle(f"{half}.mid_block", f"{half}/mid", widths[-1])
    for level, width in enumerate(widths):
        name, path = f"encoder.down_blocks.{level}", f"encoder/down_{level}"
        inputs = widths[max(level - 1, 0)]
        for b in range(config.num_res_blocks):
            yield from _block(f"{name}.resnets.{b}", f"{path}/block_{b}", width if b else inputs, width)
        if level < last:
            yield from conv(f"{name}.downsamplers.0.conv", f"{path}/downsample/conv", width, width)
        # diffusers numbers the decoder's levels in the order of running, from the coarsest.
        name, path = f"decoder.up_blocks.{last - level}", f"decoder/up_{level}"
        inputs = widths[min(level + 1, last)]
        for b in range(config.num_res_blocks + 1):
            yield from _block(f"{name}.resnets.{b}", f"{path}/block_{b}", width if b else inputs, width)
        if level:
            yield from conv(f"{name}.upsamplers.0.conv", f"{path}/upsample/conv", width, width)


def _block(name: str, path: str, inputs: int, outputs: int) -> Named:
    yield from norm(f"{name}.norm1", f"{path}/norm1", inputs)
    yield from conv(f"{name}.conv1", f"{path}/conv1", inputs, outputs)
    yield from norm(f"{name}.norm2", f"{path}/norm2", outputs)
    yield from conv(f"{name}.conv2", f"{path}/conv2", outputs, outputs)
    if inputs != outputs:
        yield from conv(f"{name}.conv_shortcut", f"{path}/nin_shortcut", inputs, outputs, 1)


def _middle(name: str, path: str, width: int) -> Named:
    for b in (0, 1):
        yield from _block(f"{name}.resnets.{b}", f"{path}/block_{b + 1}", width, width)
    attention = f"{name}.attentions.0"
    yield from norm(f"{attention}.group_norm", f"{path}/attn_1/norm", width)
    for theirs, ours in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        yield from linear_as_conv(f"{attention}.{theirs}", f"{path}/attn_1/{ours}", (width, width))
