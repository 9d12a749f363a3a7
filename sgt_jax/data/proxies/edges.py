"""A low-level proxy: the strength of edges, soft and bright on black, computed from the photo alone."""

import numpy as np
from scipy import ndimage

from sgt_jax.data.proxies.registry import register

MIN_SIGMA = 0.6  # pixels: less would show the grain of a small picture


@register("edges", level="low", gain=1.5, blur=0.002)
def edges(example, rng, options):
    """Sobel magnitude of the strongest channel.

    `blur` is the smoothing beforehand (standard deviation as a fraction of the diagonal: texture is no edge); with
    `gain` 1 a full step from black to white is 255.
    """
    del rng
    return example.image, edge_picture(example.image, **options)


def edge_picture(image: np.ndarray, gain: float = 1.5, blur: float = 0.002) -> np.ndarray:
    """uint8 [H, W, 3] grey picture of edge strength."""
    sigma = max(blur * float(np.hypot(*image.shape[:2])), MIN_SIGMA)
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))
    # Not `ndimage.sobel`, which would also smooth over the channel axis.
    across, down = (
        ndimage.correlate1d(ndimage.correlate1d(smooth, (-1, 0, 1), axis), (0.25, 0.5, 0.25), 1 - axis)
        for axis in (1, 0)
    )
    strength = np.hypot(across, down).max(-1) * gain
    return np.repeat(np.clip(strength + 0.5, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
