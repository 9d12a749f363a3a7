"""Low-level proxies computed from the photo alone: soft edge strength (Sobel) and thin edge lines (Canny)."""

import numpy as np

from sgt_jax.data.proxies.registry import Painted, register

MIN_SIGMA = 0.6  # pixels: less would show the grain of a small picture


@register("edges", level="low", gain=1.5, blur=0.002)
def edges(example, rng, options):
    """Sobel strength of edges of the strongest channel, soft grey, bright on black.

    `blur` is the smoothing beforehand (standard deviation as a fraction of the diagonal: texture is no edge); with
    `gain` 1 a full step from black to white is 255.
    """
    del rng
    return Painted(example.image, edge_picture(example.image, **options))


def edge_picture(image: np.ndarray, gain: float = 1.5, blur: float = 0.002) -> np.ndarray:
    """uint8 [H, W, 3] grey picture of edge strength."""
    from scipy import ndimage  # here: sampling needs none of it, and it takes 0.4 s

    smooth = ndimage.gaussian_filter(image.astype(np.float32), (*_sigma(image, blur), 0))
    # Not `ndimage.sobel`, which would also smooth over the channel axis.
    across, down = (
        ndimage.correlate1d(ndimage.correlate1d(smooth, (-1, 0, 1), axis), (0.25, 0.5, 0.25), 1 - axis)
        for axis in (1, 0)
    )
    strength = np.hypot(across, down).max(-1) * gain
    return _grey(np.clip(strength + 0.5, 0, 255))


@register("canny", level="low", low=0.4, high=0.8, blur=0.002, width=0.001)
def canny(example, rng, options):
    """Canny edges: thin white lines on black.

    `low` and `high` are the thresholds on the unscaled Sobel gradient of a grey picture in 0..1 (0.4 and 0.8 are OpenCV's
    100 and 200); `blur` (standard deviation of the
    smoothing) and `width` (of the lines, at least one pixel) are fractions of the diagonal.
    """
    from scipy import ndimage  # here: sampling needs neither, and they take 0.4 s
    from skimage import feature

    del rng
    grey = example.image.astype(np.float32) @ np.float32([0.299, 0.587, 0.114]) / 255
    lines = feature.canny(grey, _sigma(grey, options["blur"])[0], options["low"], options["high"])
    width = round(options["width"] * float(np.hypot(*grey.shape)))
    if width > 1:
        lines = ndimage.binary_dilation(lines, np.ones((width, width), bool))
    return Painted(example.image, _grey(lines * 255))


def _sigma(image: np.ndarray, blur: float) -> tuple[float, float]:
    return (max(blur * float(np.hypot(*image.shape[:2])), MIN_SIGMA),) * 2


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)
