"""The published tensors of OmniGen2's diffusion transformer against our parameters, and its folder."""

import os
from typing import Any

from sgt_jax.checkpoints import importing
from sgt_jax.checkpoints.header import shown
from sgt_jax.checkpoints.importing import Sharding
from sgt_jax.checkpoints.names import Named, NameMap, linear, same
from sgt_jax.checkpoints.safetensors import Weights
from sgt_jax.errors import CheckpointError, ConfigError
from sgt_jax.models.omnigen2.config import MAX_REFERENCES, DitConfig, known
from sgt_jax.models.omnigen2.dit import TIME_FEATURES
from sgt_jax.models.omnigen2.mllm.published import read_json

WEIGHTS = "diffusion_pytorch_model.safetensors"
CLASS = "OmniGen2Transformer2DModel"
# Published stack -> (its place with us, whether the time modulates it).
STACKS = {
    "context_refiner": ("context_refiner", False),
    "noise_refiner": ("noise_refiner", True),
    "ref_image_refiner": ("ref_image_refiner", True),
    "layers": ("joint", True),
}
_ATTENTION = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out.0": "o_proj"}
_MLP = {"linear_1": "gate_proj", "linear_3": "up_proj", "linear_2": "down_proj"}


def dit_config(folder: str | os.PathLike) -> DitConfig:
    """The config of a published `transformer/` folder.

    Raises:
      CheckpointError: config.json is absent, damaged, or describes another model.
    """
    path = os.path.join(folder, "config.json")
    fields = known(DitConfig, read_json(path))
    needed = set(DitConfig.__dataclass_fields__) - {"out_channels", "ffn_dim_multiplier", "axes_lens", "timestep_scale"}
    if lacking := sorted(needed - set(fields)):
        raise CheckpointError(path, f"lacks {', '.join(lacking)}.", "Take the file of the release.")
    for name, value in fields.items():
        if type(getattr(DitConfig(), name)) is int and (type(value) is not int or value < 1):
            raise CheckpointError(path, f"has {name} {shown(value)}, which is not possible.", "Correct the file.")
    try:
        return DitConfig(**{"timestep_scale": 1.0, **fields})
    except ConfigError as error:
        raise CheckpointError(path, f"{error}.", "Take the file of the release.") from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(path, f"does not describe a transformer: {error}.", "Check the folder.") from None


def weights_path(folder: str | os.PathLike) -> str:
    """The file, or the index of several, that holds the weights of a `transformer/` folder."""
    path = os.path.join(folder, WEIGHTS)
    return path if os.path.exists(path) or not os.path.exists(path + ".index.json") else path + ".index.json"


def load_dit(
    folder: str | os.PathLike, *, scan_layers: bool = False, sharding: Sharding | None = None, dtype: Any = None
) -> tuple[dict[str, Any], DitConfig]:
    """(parameters of `Dit`, config) of a `transformer/` folder, single or sharded; see `importing.load_leaf`.

    Raises:
      CheckpointError: files are absent, damaged or of another model.
    """
    config = dit_config(folder)
    names = dit_names(config, scan_layers)
    with importing.Files([Weights(weights_path(folder))]) as files:
        importing.check_names(folder, files.tensors, names)
        return importing.load_tree(files, names, sharding, dtype), config


def dit_names(config: DitConfig, scan_layers: bool = False) -> NameMap:
    """Where every published tensor lives in the parameters of `Dit`, layers stacked or not."""
    return dict(_dit(config, scan_layers))


def _dit(dit: DitConfig, scan: bool) -> Named:
    d, time, token = dit.hidden_size, dit.time_width, dit.token_width
    yield from same("image_index_embedding", "image_index_embedding", (MAX_REFERENCES, d))
    for name in ("x_embedder", "ref_image_patch_embedder"):
        yield from linear(name, name, (d, token))
    top = "time_caption_embed"
    yield from linear(f"{top}.timestep_embedder.linear_1", "timestep_embedder/linear_1", (time, TIME_FEATURES))
    yield from linear(f"{top}.timestep_embedder.linear_2", "timestep_embedder/linear_2", (time, time))
    yield from same(f"{top}.caption_embedder.0.weight", "caption_embedder/norm/scale", (dit.text_feat_dim,))
    yield from linear(f"{top}.caption_embedder.1", "caption_embedder/linear", (d, dit.text_feat_dim))
    for stack, (path, modulated) in STACKS.items():
        for i in range(dit.num_layers if stack == "layers" else dit.num_refiner_layers):
            layer, at = ("layers", i) if scan else (f"layers_{i}", None)
            yield from _block(dit, f"{stack}.{i}", f"{path}/{layer}", at, modulated)
    yield from linear("norm_out.linear_1", "norm_out/linear_1", (d, time))
    yield from linear("norm_out.linear_2", "norm_out/linear_2", (token, d))


def _block(dit: DitConfig, name: str, path: str, at: int | None, modulated: bool) -> Named:
    d, inner, head = dit.hidden_size, dit.mlp_width, dit.head_size
    for theirs, ours in _ATTENTION.items():
        width = d if ours in ("q_proj", "o_proj") else dit.num_kv_heads * head
        yield from linear(f"{name}.attn.{theirs}", f"{path}/{ours}", (width, d), bias=False, layer=at)
    for theirs, ours in (("norm_q", "q_norm"), ("norm_k", "k_norm")):
        yield from same(f"{name}.attn.{theirs}.weight", f"{path}/{ours}/scale", (head,), at)
    for theirs, ours in _MLP.items():
        shape = (d, inner) if ours == "down_proj" else (inner, d)
        yield from linear(f"{name}.feed_forward.{theirs}", f"{path}/mlp/{ours}", shape, bias=False, layer=at)
    for norm in ("norm2", "ffn_norm1", "ffn_norm2"):
        yield from same(f"{name}.{norm}.weight", f"{path}/{norm}/scale", (d,), at)
    if modulated:
        yield from linear(f"{name}.norm1.linear", f"{path}/norm1/linear", (4 * d, dit.time_width), layer=at)
        yield from same(f"{name}.norm1.norm.weight", f"{path}/norm1/norm/scale", (d,), at)
    else:
        yield from same(f"{name}.norm1.weight", f"{path}/norm1/scale", (d,), at)


# -- Adapters ----------------------------------------------------------------------------------------------------------

LORA_FILE = "pytorch_lora_weights.safetensors"
LORA_PREFIX = "transformer."
