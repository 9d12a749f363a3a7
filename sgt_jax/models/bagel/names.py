"""The published tensors of a BAGEL checkpoint against our parameter tree, as data: one entry per published tensor.

`name_map(config)` is the only place that knows both namings; `load` and `to_published` (and the streaming importer)
just walk it. Published linear weights are [out, in], convolutions [out, in, kh, kw]; ours are [in, out] and
[kh, kw, in, out].
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath
from safetensors.numpy import load_file

from sgt_jax.models.autoencoder.flux_names import _vae, load_vae
from sgt_jax.models.bagel.config import BagelConfig

MODEL_FILE, VAE_FILE = "ema.safetensors", "ae.safetensors"


class WeightsError(ValueError):
    """A checkpoint does not fit the config; the message names the tensor."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One published tensor.

    Attributes:
      name: published name.
      file: MODEL_FILE or VAE_FILE.
      shape: published shape.
      path: where it is in our tree.
      transform: "none", "transpose" (linear) or "conv"; how the published array becomes ours.
      layer: index into the leading layer axis of our array if layers are stacked, else None.
      optional: a file may lack it (the fixed position tables: training recomputes them).
    """

    name: str
    file: str
    shape: tuple[int, ...]
    path: tuple[str, ...]
    transform: str = "none"
    layer: int | None = None
    optional: bool = False

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        """A published array in our layout (of one layer, if layers are stacked).

        Raises:
          WeightsError: the shape is not the published one.
        """
        if self.path[-2:] == ("patch_embedding", "kernel") and array.ndim == 4:
            array = patch_conv_to_linear(array)  # SigLIP's own files hold a convolution
        if array.shape != self.shape:
            raise WeightsError(f"{self.file}: {self.name} has shape {array.shape}, the config says {self.shape}")
        return _TO_OURS[self.transform](array)

    def to_published(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `to_ours`."""
        return _TO_PUBLISHED[self.transform](array)


_TO_OURS = {"none": lambda x: x, "transpose": lambda x: x.T, "conv": lambda x: x.transpose(2, 3, 1, 0)}
_TO_PUBLISHED = {"none": lambda x: x, "transpose": lambda x: x.T, "conv": lambda x: x.transpose(3, 2, 0, 1)}


def patch_conv_to_linear(weight: np.ndarray) -> np.ndarray:
    """SigLIP's patch convolution [out, 3, P, P] -> the linear form [out, P*P*3], channels fastest."""
    return weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], -1)


def patch_linear_to_conv(weight: np.ndarray, channels: int = 3) -> np.ndarray:
    """The inverse of `patch_conv_to_linear`."""
    patch = int(round((weight.shape[1] / channels) ** 0.5))
    return weight.reshape(weight.shape[0], patch, patch, channels).transpose(0, 3, 1, 2)


def name_map(config: BagelConfig) -> list[Entry]:
    """All published tensors of a model of this config, both files, in the order of our tree."""
    return [*_decoder(config), *_rest(config), *_vit(config), *_vae(config)]


# -- The map -----------------------------------------------------------------------------------------------------------


def _linear(name: str, path: tuple[str, ...], shape: tuple[int, int], bias: bool = True, **kw: Any) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", MODEL_FILE, shape, (*path, "kernel"), "transpose", **kw)
    if bias:
        yield Entry(f"{name}.bias", MODEL_FILE, shape[:1], (*path, "bias"), **kw)


def _layer_path(config: BagelConfig, i: int) -> tuple[str, dict[str, Any]]:
    return ("layers", {"layer": i}) if config.scan_layers else (f"layers_{i}", {})


def _decoder(config: BagelConfig) -> Iterator[Entry]:
    llm = config.llm
    h, inner, d = llm.hidden_size, llm.intermediate_size, llm.head_size
    q, kv = llm.num_attention_heads * d, llm.num_key_value_heads * d
    top = "language_model.model"
    yield Entry(f"{top}.embed_tokens.weight", MODEL_FILE, (llm.vocab_size, h), ("decoder", "embed", "embedding"))
    for i in range(llm.num_hidden_layers):
        layer, kw = _layer_path(config, i)
        for lane, suffix in (("und", ""), ("gen", "_moe_gen")):
            name, path = f"{top}.layers.{i}", ("decoder", layer, lane)
            for m, width in (("q", q), ("k", kv), ("v", kv)):
                yield from _linear(f"{name}.self_attn.{m}_proj{suffix}", (*path, f"{m}_proj"), (width, h), **kw)
            yield from _linear(f"{name}.self_attn.o_proj{suffix}", (*path, "o_proj"), (h, q), bias=False, **kw)
            for m in ("q_norm", "k_norm"):
                yield Entry(f"{name}.self_attn.{m}{suffix}.weight", MODEL_FILE, (d,), (*path, m, "scale"), **kw)
            for m, shape in (("gate_proj", (inner, h)), ("up_proj", (inner, h)), ("down_proj", (h, inner))):
                yield from _linear(f"{name}.mlp{suffix}.{m}", (*path, "mlp", m), shape, bias=False, **kw)
            for m in ("input_layernorm", "post_attention_layernorm"):
                yield Entry(f"{name}.{m}{suffix}.weight", MODEL_FILE, (h,), (*path, m, "scale"), **kw)
    yield Entry(f"{top}.norm.weight", MODEL_FILE, (h,), ("decoder", "norm_und", "scale"))
    yield Entry(f"{top}.norm_moe_gen.weight", MODEL_FILE, (h,), ("decoder", "norm_gen", "scale"))
    yield from _linear("language_model.lm_head", ("decoder", "lm_head"), (llm.vocab_size, h), bias=False)


def _rest(config: BagelConfig) -> Iterator[Entry]:
    h, hv, token = config.llm.hidden_size, config.vit.hidden_size, config.latent_width
    yield from _linear("time_embedder.mlp.0", ("time_embedder", "mlp_0"), (h, 256))
    yield from _linear("time_embedder.mlp.2", ("time_embedder", "mlp_2"), (h, h))
    yield from _linear("vae2llm", ("vae2llm",), (h, token))
    yield from _linear("llm2vae", ("llm2vae",), (token, h))
    yield from _linear("connector.fc1", ("connector", "fc1"), (h, hv))
    yield from _linear("connector.fc2", ("connector", "fc2"), (h, h))
    for table, side in (
        ("latent_pos_embed", config.max_latent_size),
        ("vit_pos_embed", config.vit_max_num_patch_per_side),
    ):
        yield Entry(f"{table}.pos_embed", MODEL_FILE, (side**2, h), (table, "table"), optional=True)


def _vit(config: BagelConfig) -> Iterator[Entry]:
    vit = config.vit
    h, inner = vit.hidden_size, vit.intermediate_size
    top = "vit_model.vision_model"
    patch = vit.patch_size**2 * vit.num_channels
    yield from _linear(f"{top}.embeddings.patch_embedding", ("vit", "patch_embedding"), (h, patch))
    yield Entry(
        f"{top}.embeddings.position_embedding.weight", MODEL_FILE,
        ((vit.image_size // vit.patch_size) ** 2, h), ("vit", "position_embedding", "embedding"),
    )  # fmt: skip
    for j in range(config.vit_layers):
        layer, kw = _layer_path(config, j)
        name, path = f"{top}.encoder.layers.{j}", ("vit", layer)
        for m in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{name}.self_attn.{m}", (*path, "self_attn", m), (h, h), **kw)
        for m in ("layer_norm1", "layer_norm2"):
            yield from _norm(f"{name}.{m}", MODEL_FILE, h, (*path, m), **kw)
        yield from _linear(f"{name}.mlp.fc1", (*path, "mlp", "fc1"), (inner, h), **kw)
        yield from _linear(f"{name}.mlp.fc2", (*path, "mlp", "fc2"), (h, inner), **kw)
    yield from _norm(f"{top}.post_layernorm", MODEL_FILE, h, ("vit", "post_layernorm"))


def _norm(name: str, file: str, width: int, path: tuple[str, ...], **kw: Any) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", file, (width,), (*path, "scale"), **kw)
    yield Entry(f"{name}.bias", file, (width,), (*path, "bias"), **kw)


# -- Loading and writing -----------------------------------------------------------------------------------------------


def from_published(tensors: Mapping[str, np.ndarray], config: BagelConfig, file: str | None = None) -> dict[str, Any]:
    """{published name: array} -> our parameter tree, float32.

    Args:
      tensors: at least the tensors of `file`; unknown names are ignored.
      file: MODEL_FILE or VAE_FILE for that part of the tree only.

    Raises:
      WeightsError: a tensor is missing or has another shape.
    """
    flat: dict[tuple[str, ...], Any] = {}
    for entry in name_map(config):
        if file not in (None, entry.file) or (entry.optional and entry.name not in tensors):
            continue
        if entry.name not in tensors:
            raise WeightsError(f"{entry.file} lacks {entry.name}")
        array = entry.to_ours(tensors[entry.name]).astype(np.float32)
        if entry.layer is None:
            flat[entry.path] = np.ascontiguousarray(array)
        else:
            flat.setdefault(entry.path, []).append(array)
    return _nested({path: np.stack(x) if isinstance(x, list) else x for path, x in flat.items()})


def load(folder: Any, config: BagelConfig) -> dict[str, Any]:
    """Reads ema.safetensors and ae.safetensors into our tree; absent position tables are computed."""
    from sgt_jax.models.bagel.model import position_tables

    folder = epath.Path(folder)
    params = from_published(load_file(folder / MODEL_FILE), config, MODEL_FILE)
    params |= {name: {"table": table} for name, table in position_tables(config).items() if name not in params}
    return params | load_vae(folder / VAE_FILE, config, nested=True)


def to_published(params: Mapping[str, Any], config: BagelConfig, file: str | None = None) -> dict[str, np.ndarray]:
    """Our parameter tree -> {published name: array}, the inverse of `from_published`. Absent parts are left out."""
    out = {}
    for entry in name_map(config):
        if file not in (None, entry.file) or entry.path[0] not in params:
            continue
        array = params
        for key in entry.path:
            array = array[key]
        array = np.asarray(array if entry.layer is None else array[entry.layer])
        out[entry.name] = np.ascontiguousarray(entry.to_published(array))
    return out


def _nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return tree
