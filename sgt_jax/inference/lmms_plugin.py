"""The entry point by which lmms-eval finds our models: `--model sgt_jax --model_args pretrained=DIR`.

Nothing of lmms-eval is needed, or imported, before it asks.
"""

from typing import Any

MODEL = "sgt_jax"


def manifest() -> Any:
    """What lmms-eval registers: the name of the model and where its class is."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL, chat_class_path="sgt_jax.inference.lmms_model.SgtJax")
