"""Settings of published config files that our models do not compute: refused by name, never passed over.

Weights of another architecture often have the same names and shapes. What tells them apart is a field of the config that
nobody reads; these tables say which fields matter, and with which values we compute what the file means.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from sgt_jax.checkpoints.header import shown
from sgt_jax.errors import CheckpointError

Allowed = Callable[[Any, Mapping[str, Any]], bool]


def _one_of(*values: Any) -> Allowed:
    return lambda value, _: value in values


def _plain_rope(value: Any, _: Mapping[str, Any]) -> bool:
    return not value or (isinstance(value, Mapping) and value.get("rope_type", value.get("type")) in ("default", None))


def _no_window(value: Any, others: Mapping[str, Any]) -> bool:
    # Qwen's files hold a window that use_sliding_window switches off.
    return value is None or others.get("use_sliding_window") is not True


def _all_full(value: Any, _: Mapping[str, Any]) -> bool:
    return not value or set(value) == {"full_attention"}


def _head_size(value: Any, others: Mapping[str, Any]) -> bool:
    width, heads = others.get("hidden_size"), others.get("num_attention_heads")
    return value is None or not (width and heads) or value * heads == width


_OFF = _one_of(None, False, 0, 0.0)

# Field -> whether a value is one that we compute. Absent fields have the value of the original architecture.
DECODER: Mapping[str, Allowed] = {
    "model_type": _one_of(None, "qwen2", "bagel"),
    "hidden_act": _one_of(None, "silu", "swish"),
    "rope_scaling": _plain_rope,
    "rope_parameters": _plain_rope,
    "partial_rotary_factor": _one_of(None, 1, 1.0),
    "use_sliding_window": _OFF,
    "sliding_window": _no_window,
    "layer_types": _all_full,
    "tie_word_embeddings": _OFF,
    "attention_bias": _one_of(None, True),  # Qwen2 has biases on queries, keys and values
    "mlp_bias": _OFF,
    "attention_dropout": _OFF,
    "head_dim": _head_size,
    "qk_norm": _one_of(None, True),
    "logit_scale": _one_of(None, 1, 1.0),
    "quantization_config": _one_of(None, {}),
    "num_experts": _OFF,
}
VISION: Mapping[str, Allowed] = {
    "model_type": _one_of(None, "siglip_vision_model"),
    "hidden_act": _one_of(None, "gelu_pytorch_tanh", "gelu_new", "gelu_fast"),
    "attention_dropout": _OFF,
    "num_channels": _one_of(None, 3),
    "quantization_config": _one_of(None, {}),
}


def check(path: str | os.PathLike, values: Mapping[str, Any], table: Mapping[str, Allowed]) -> None:
    """Refuses a published config with settings that our model does not compute.

    Args:
      path: of the file, for the message.
      values: what it holds.
      table: DECODER or VISION.

    Raises:
      CheckpointError: it names every such setting with its value.
    """
    wrong = [name for name, allowed in table.items() if name in values and not allowed(values[name], values)]
    if wrong:
        said = ", ".join(f"{name} = {shown(values[name])}" for name in wrong)
        raise CheckpointError(path, f"asks for what this model does not compute: {said}.", "Use weights without it.")
