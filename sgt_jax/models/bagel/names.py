"""The published tensors of a BAGEL checkpoint against our parameter tree, as data: one entry per published tensor.

`name_map(config)` is the only place that knows both namings; loading and exporting just walk it. Published linear
weights are [out, in], convolutions [out, in, kh, kw]; ours are [in, out] and [kh, kw, in, out].
"""

from collections.abc import Mapping

import numpy as np

from sgt_jax.checkpoints.names import Named, NameMap, below, linear, norm, same
from sgt_jax.models.autoencoder.flux_names import VAE_FILE, vae_names
from sgt_jax.models.bagel.config import BagelConfig

MODEL_FILE = "ema.safetensors"


# Fixed position tables: a file may lack them, as the reference drops them in training.
TABLES = ("latent_pos_embed.pos_embed", "vit_pos_embed.pos_embed")


def name_map(config: BagelConfig, file: str | None = None) -> NameMap:
    """All published tensors of a model of this config, or those of one file, in the order of our tree."""
    files: Mapping[str, Named] = {MODEL_FILE: _model(config), VAE_FILE: below("vae", vae_names(config.vae).items())}
    return {name: source for one, part in files.items() if file in (None, one) for name, source in part}


def patch_conv_to_linear(weight: np.ndarray) -> np.ndarray:
    """SigLIP's own patch convolution [out, 3, P, P] as the published linear form [out, P*P*3], channels fastest."""
    return weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], -1)


def _model(config: BagelConfig) -> Named:
    yield from _decoder(config)
    yield from _rest(config)
    yield from _vit(config)


def _layer(config: BagelConfig, i: int) -> tuple[str, int | None]:
    """(name in our tree, position if layers are stacked)."""
    return ("layers", i) if config.scan_layers else (f"layers_{i}", None)


def _decoder(config: BagelConfig) -> Named:
    llm = config.llm
    h, inner, d = llm.hidden_size, llm.intermediate_size, llm.head_size
    q, kv = llm.num_attention_heads * d, llm.num_key_value_heads * d
    top = "language_model.model"
    yield from same(f"{top}.embed_tokens.weight", "decoder/embed/embedding", (llm.vocab_size, h))
    for i in range(llm.num_hidden_layers):
        layer, at = _layer(config, i)
        for lane, suffix in (("und", ""), ("gen", "_moe_gen")):
            name, path = f"{top}.layers.{i}", f"decoder/{layer}/{lane}"
            for m, width in (("q", q), ("k", kv), ("v", kv)):
                yield from linear(f"{name}.self_attn.{m}_proj{suffix}", f"{path}/{m}_proj", (width, h), layer=at)
            yield from linear(f"{name}.self_attn.o_proj{suffix}", f"{path}/o_proj", (h, q), bias=False, layer=at)
            for m in ("q_norm", "k_norm"):
                yield from same(f"{name}.self_attn.{m}{suffix}.weight", f"{path}/{m}/scale", (d,), at)
            for m, shape in (("gate_proj", (inner, h)), ("up_proj", (inner, h)), ("down_proj", (h, inner))):
                yield from linear(f"{name}.mlp{suffix}.{m}", f"{path}/mlp/{m}", shape, bias=False, layer=at)
            for m in ("input_layernorm", "post_attention_layernorm"):
                yield from same(f"{name}.{m}{suffix}.weight", f"{path}/{m}/scale", (h,), at)
    yield from same(f"{top}.norm.weight", "decoder/norm_und/scale", (h,))
    yield from same(f"{top}.norm_moe_gen.weight", "decoder/norm_gen/scale", (h,))
    yield from linear("language_model.lm_head", "decoder/lm_head", (llm.vocab_size, h), bias=False)


def _rest(config: BagelConfig) -> Named:
    h, hv, token = config.llm.hidden_size, config.vit.hidden_size, config.latent_width
    yield from linear("time_embedder.mlp.0", "time_embedder/mlp_0", (h, 256))
    yield from linear("time_embedder.mlp.2", "time_embedder/mlp_2", (h, h))
    yield from linear("vae2llm", "vae2llm", (h, token))
    yield from linear("llm2vae", "llm2vae", (token, h))
    yield from linear("connector.fc1", "connector/fc1", (h, hv))
    yield from linear("connector.fc2", "connector/fc2", (h, h))
    for table, side in zip(TABLES, (config.max_latent_size, config.vit_max_num_patch_per_side), strict=True):
        yield from same(table, f"{table.partition('.')[0]}/table", (side**2, h))


def _vit(config: BagelConfig) -> Named:
    vit = config.vit
    h, inner = vit.hidden_size, vit.intermediate_size
    top, patches = "vit_model.vision_model", (vit.image_size // vit.patch_size) ** 2
    yield from linear(
        f"{top}.embeddings.patch_embedding", "vit/patch_embedding", (h, vit.patch_size**2 * vit.num_channels)
    )
    yield from same(f"{top}.embeddings.position_embedding.weight", "vit/position_embedding/embedding", (patches, h))
    for j in range(config.vit_layers):
        layer, at = _layer(config, j)
        name, path = f"{top}.encoder.layers.{j}", f"vit/{layer}"
        for m in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(f"{name}.self_attn.{m}", f"{path}/self_attn/{m}", (h, h), layer=at)
        for m in ("layer_norm1", "layer_norm2"):
            yield from norm(f"{name}.{m}", f"{path}/{m}", h, at)
        yield from linear(f"{name}.mlp.fc1", f"{path}/mlp/fc1", (inner, h), layer=at)
        yield from linear(f"{name}.mlp.fc2", f"{path}/mlp/fc2", (h, inner), layer=at)
    yield from norm(f"{top}.post_layernorm", "vit/post_layernorm", h)
