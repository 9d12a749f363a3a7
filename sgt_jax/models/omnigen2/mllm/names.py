"""The published tensors of Qwen2.5-VL against our parameters, and the other names under which they appear.

`mllm_names` holds the names on disk: of the base model, and of whatever `save_pretrained` writes. Other writers keep the
names of the modules in memory; `published_name` turns those into the names on disk.
"""

from sgt_jax.checkpoints.names import Named, NameMap, Source, linear, same
from sgt_jax.models.omnigen2.config import OmniGen2Config

HEAD = "lm_head.weight"
_VISION = ("model.visual.", "visual.")
_TEXT = ("model.language_model.", "language_model.", "model.")


def mllm_names(config: OmniGen2Config) -> NameMap:
    """{name on disk: where it lives in {"text": ..., "vision": ...}}; without the head where it is the table."""
    return dict((*_text(config), *_vision(config)))


def published_name(name: str) -> str:
    """The name on disk of a tensor under any of its names; others are given back as they are."""
    for prefixes, parent in ((_VISION, "visual."), (_TEXT, "model.")):
        for prefix in prefixes:
            if name.startswith(prefix):
                return parent + name.removeprefix(prefix)
    return name


def in_memory(name: str) -> list[str]:
    """The other names of a tensor or module on disk: those that it has in memory, whole or without the model around it."""
    for prefixes, parent in ((_VISION, "visual."), (_TEXT, "model.")):
        if name.startswith(parent):
            return [prefix + name.removeprefix(parent) for prefix in prefixes if prefix != parent]
    return []


def _layer(config: OmniGen2Config, i: int) -> tuple[str, int | None]:
    """(name in our tree, position if layers are stacked)."""
    return ("layers", i) if config.scan_layers else (f"layers_{i}", None)


def _text(config: OmniGen2Config) -> Named:
    text = config.text
    h, inner, d = text.hidden_size, text.intermediate_size, text.head_size
    q, kv = text.num_attention_heads * d, text.num_key_value_heads * d
    yield from same("model.embed_tokens.weight", "text/embed/embedding", (text.vocab_size, h))
    for i in range(text.num_hidden_layers):
        layer, at = _layer(config, i)
        name, path = f"model.layers.{i}", f"text/{layer}"
        for m, width in (("q", q), ("k", kv), ("v", kv)):
            yield from linear(f"{name}.self_attn.{m}_proj", f"{path}/{m}_proj", (width, h), layer=at)
        yield from linear(f"{name}.self_attn.o_proj", f"{path}/o_proj", (h, q), bias=False, layer=at)
        for m, shape in (("gate_proj", (inner, h)), ("up_proj", (inner, h)), ("down_proj", (h, inner))):
            yield from linear(f"{name}.mlp.{m}", f"{path}/mlp/{m}", shape, bias=False, layer=at)
        for m in ("input_layernorm", "post_attention_layernorm"):
            yield from same(f"{name}.{m}.weight", f"{path}/{m}/scale", (h,), at)
    yield from same("model.norm.weight", "text/norm/scale", (h,))
    if not text.tie_word_embeddings:
        yield HEAD, Source("text/lm_head/kernel", (text.vocab_size, h), (1, 0))


def _vision(config: OmniGen2Config) -> Named:
    v = config.vision
    h, inner, p, cell = v.hidden_size, v.intermediate_size, v.patch_size, v.spatial_merge_size**2
    shape = (h, v.in_channels, v.temporal_patch_size, p, p)
    yield "visual.patch_embed.proj.weight", Source("vision/patch_embed/kernel", shape, (1, 2, 3, 4, 0))
    for i in range(v.depth):
        layer, at = _layer(config, i)
        name, path = f"visual.blocks.{i}", f"vision/{layer}"
        yield from linear(f"{name}.attn.qkv", f"{path}/qkv_proj", (3 * h, h), layer=at)
        yield from linear(f"{name}.attn.proj", f"{path}/o_proj", (h, h), layer=at)
        for m, shape in (("gate_proj", (inner, h)), ("up_proj", (inner, h)), ("down_proj", (h, inner))):
            yield from linear(f"{name}.mlp.{m}", f"{path}/mlp/{m}", shape, layer=at)
        for m in ("norm1", "norm2"):
            yield from same(f"{name}.{m}.weight", f"{path}/{m}/scale", (h,), at)
    yield from same("visual.merger.ln_q.weight", "vision/merger/ln_q/scale", (h,))
    yield from linear("visual.merger.mlp.0", "vision/merger/mlp_0", (cell * h, cell * h))
    yield from linear("visual.merger.mlp.2", "vision/merger/mlp_2", (v.out_hidden_size, cell * h))
