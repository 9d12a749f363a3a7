"""Writes adapters in the layouts that PEFT and diffusers load; see `adapters.py` for what they compute."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from sgt_jax.checkpoints import adapters
from sgt_jax.checkpoints.adapters import Low, Settings
from sgt_jax.checkpoints.writer import write_arrays
from sgt_jax.data.stored.atomic import write_text

# All keys that PEFT 0.21 writes, with the values that change nothing.
_KEYS: Mapping[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": None,
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.0,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": None,
    "target_parameters": None,
    "task_type": None,
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}


def config_of(settings: Settings, base: str | None = None) -> dict[str, Any]:
    """adapter_config.json of these settings; `base` is what the adapter was trained on, for people and tools."""

    def number(value: float) -> float | int:
        return int(value) if float(value).is_integer() else value

    return dict(_KEYS) | {
        "alpha_pattern": {key: number(value) for key, value in settings.alphas.items()},
        "base_model_name_or_path": base,
        "exclude_modules": _listed(settings.excluded) or None,
        "lora_alpha": number(settings.alpha),
        "lora_dropout": settings.dropout,
        "r": settings.rank,
        "rank_pattern": dict(settings.ranks),
        "target_modules": _listed(settings.targets),
        "use_dora": settings.dora,
        "use_rslora": settings.rslora,
    }


def _listed(names: tuple[str, ...] | str) -> list[str] | str:
    return names if isinstance(names, str) else list(names)


def arrays_of(modules: Mapping[str, Low], prefix: str = adapters.PREFIX) -> dict[str, np.ndarray]:
    """{name in the file: float32 array}, sorted by name as PEFT writes them."""
    found: dict[str, np.ndarray] = {}
    for module, low in modules.items():
        found[f"{prefix}{module}.lora_A.weight"] = low.a
        found[f"{prefix}{module}.lora_B.weight"] = low.b
        if low.magnitude is not None:
            found[f"{prefix}{module}.lora_magnitude_vector"] = low.magnitude
    return {name: np.asarray(found[name], np.float32) for name in sorted(found)}


def write(folder: str | os.PathLike, settings: Settings, modules: Mapping[str, Low], base: str | None = None) -> None:
    """Writes a folder that PEFT loads: adapter_config.json and adapter_model.safetensors.

    Args:
      modules: {path: adapter}; ranks and scales must be those of the settings.

    Raises:
      ValueError: they are not (a program error).
      CheckpointError, OSError: it cannot be written.
    """
    for module, low in modules.items():
        expected = settings.rank_of(module), settings.scale_of(module), settings.adapts(module)
        if expected != (len(low.a), low.scale, True):
            raise ValueError(f"{module}: rank, scale, adapted: {len(low.a)}, {low.scale}; the settings say {expected}")
    os.makedirs(folder, exist_ok=True)
    write_arrays(os.path.join(folder, adapters.WEIGHTS), arrays_of(modules), {"format": "pt"})
    text = json.dumps(config_of(settings, base), indent=2, sort_keys=True)
    write_text(os.path.join(folder, adapters.CONFIG), text)


def write_diffusers(path: str | os.PathLike, modules: Mapping[str, Low], prefix: str = "transformer.") -> None:
    """Writes one file in the layout of diffusers, whose alpha is r: scales are multiplied into lora_B.

    Raises:
      ValueError: DoRA, which that layout does not have.
      CheckpointError, OSError: it cannot be written.
    """
    if any(low.magnitude is not None for low in modules.values()):
        raise ValueError("the layout of diffusers has no magnitudes (DoRA)")
    scaled = {
        module: low._replace(b=np.asarray(low.b * np.float32(low.scale)), scale=1.0) for module, low in modules.items()
    }
    write_arrays(path, arrays_of(scaled, prefix), {"format": "pt"})
