"""A published folder in memory, read with plain NumPy: what the streaming loader is compared with."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from sgt_jax import trees
from sgt_jax.models.autoencoder.flux_names import VAE_FILE
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.names import MODEL_FILE, name_map


def load(folder: Path, config: BagelConfig) -> dict[str, Any]:
    """Our tree, float32: linear weights [out, in] and convolutions [out, in, kh, kw] turned by what they are."""
    tensors = load_file(folder / MODEL_FILE) | load_file(folder / VAE_FILE)
    layers: dict[str, list[np.ndarray]] = {}
    for name, source in name_map(config).items():
        array = tensors[name].astype(np.float32)
        if source.path.endswith("/kernel"):
            array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
        layers.setdefault(source.path, []).append(array)
    stacked = {source.path for source in name_map(config).values() if source.layer is not None}
    return trees.nested({path: np.stack(x) if path in stacked else x[0] for path, x in layers.items()})
