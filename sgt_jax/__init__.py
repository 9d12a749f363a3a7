"""Semantic Generative Tuning of unified multimodal models, in JAX.

    from sgt_jax import load

    model = load("package:nano")
    model.draw(["a red circle"])[0].picture

`load` is `sgt_jax.inference.load.load`. It is imported when it is first used, so that `import sgt_jax` needs no JAX.
"""

import importlib
from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load`, imported when it is asked for."""
    if name == "load":
        return importlib.import_module("sgt_jax.inference.load").load
    raise AttributeError(f"module 'sgt_jax' has no attribute '{name}'")
