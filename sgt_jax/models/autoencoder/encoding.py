"""An autoencoder as a function from pictures to the moments of their latents."""

from collections.abc import Callable
from typing import Any

import numpy as np


def encoder(task: Any) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 [N, H, W, 3] -> float16 moments [N, h, w, 2C], by the autoencoder that the run starts from, in float32."""
    import jax

    from sgt_jax.models.autoencoder import flux_names
    from sgt_jax.models.autoencoder.model import Autoencoder, to_unit_range

    vae = Autoencoder(task.model_config.vae, dtype=np.float32, precision=jax.lax.Precision.HIGHEST)
    params = jax.device_put(flux_names.load_vae(task.vae_file(), task.model_config.vae))
    apply = jax.jit(lambda params, pixels: vae.apply({"params": params}, to_unit_range(pixels), method="encode"))
    limit = float(np.finfo(np.float16).max)
    return lambda pixels: np.clip(np.asarray(apply(params, pixels)), -limit, limit).astype(np.float16)
