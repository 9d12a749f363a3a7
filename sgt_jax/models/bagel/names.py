"""The published tensors of a BAGEL checkpoint against our parameter tree, as data: one entry per published tensor.

`name_map(config)` is the only place that knows both namings; `load` and `to_published` (and the streaming importer)
just walk it. Published linear weights are [out, in], convolutions [out, in, kh, kw]; ours are [in, out] and
[kh, kw, in, out].
"""

from collections.abc import Iterator
from typing import Any

from etils import epath
from safetensors.numpy import load_file

from sgt_jax.checkpoints.entries import Entry, from_published, norm_entries
from sgt_jax.models.autoencoder.flux_names import VAE_FILE, load_vae, vae_entries
from sgt_jax.models.bagel.config import BagelConfig

MODEL_FILE = "ema.safetensors"


def name_map(config: BagelConfig, file: str | None = None) -> list[Entry]:
    """All published tensors of a model of this config, or those of one file, in the order of our tree."""
    found = [*_decoder(config), *_rest(config), *_vit(config), *vae_entries(config.vae)]
    return [entry for entry in found if file in (None, entry.file)]


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
            yield from norm_entries(f"{name}.{m}", MODEL_FILE, h, (*path, m), **kw)
        yield from _linear(f"{name}.mlp.fc1", (*path, "mlp", "fc1"), (inner, h), **kw)
        yield from _linear(f"{name}.mlp.fc2", (*path, "mlp", "fc2"), (h, inner), **kw)
    yield from norm_entries(f"{top}.post_layernorm", MODEL_FILE, h, ("vit", "post_layernorm"))


# -- Loading and writing -----------------------------------------------------------------------------------------------


def load(folder: Any, config: BagelConfig) -> dict[str, Any]:
    """Reads ema.safetensors and ae.safetensors into our tree; absent position tables are computed."""
    from sgt_jax.models.bagel.model import position_tables

    folder = epath.Path(folder)
    params = from_published(load_file(folder / MODEL_FILE), name_map(config, MODEL_FILE))
    params |= {name: {"table": table} for name, table in position_tables(config).items() if name not in params}
    return params | {"vae": load_vae(folder / VAE_FILE, config.vae)}
