"""An autoencoder as a function from pictures to the moments of their latents."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from sgt_jax.models.autoencoder.model import Autoencoder, AutoencoderConfig, to_unit_range


def encoder(params: Mapping[str, Any], config: AutoencoderConfig) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 [N, H, W, 3] -> float16 moments [N, h, w, 2C], computed in float32."""
    vae = Autoencoder(config, dtype=np.float32, precision=jax.lax.Precision.HIGHEST)
    params = jax.device_put(params)
    apply = jax.jit(lambda params, pixels: vae.apply({"params": params}, to_unit_range(pixels), method="encode"))
    limit = float(np.finfo(np.float16).max)
    return lambda pixels: np.clip(np.asarray(apply(params, pixels)), -limit, limit).astype(np.float16)
