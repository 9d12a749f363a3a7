"""Mid-level proxies with parts of the photo missing: free-form holes (inpainting) and random patches (MAE)."""

import numpy as np

from sgt_jax.data.pictures import corruptions
from sgt_jax.data.proxies.registry import Painted, register
from sgt_jax.errors import DataError


@register("inpainting", level="mid", intensities=(0.3, 0.5, 0.6, 0.8), fills=(255, 0))
def inpainting(example, rng, options):
    """The whole photo; the one shown has strokes and rectangles painted over in white or black."""
    intensity, fill = rng.choice(options["intensities"]), rng.choice(options["fills"])
    mask = corruptions.holes(example.image.shape[:2], rng, float(intensity))
    return Painted(_covered(example.image, mask, fill), example.image)


@register("mae", level="mid", ratio=0.75, across=14, fill=127)
def mae(example, rng, options):
    """The whole photo; the one shown has most of its patches painted over in grey.

    `ratio` of the cells of a grid are hidden, `across` cells along the short side (as many as MAE's 16 pixels of 224).
    """
    if not 0 < options["ratio"] < 1 or options["across"] < 1:
        raise DataError(
            f"proxy 'mae': ratio={options['ratio']} must lie between 0 and 1, across={options['across']} above 0"
        )
    mask = corruptions.patches(example.image.shape[:2], rng, options["ratio"], options["across"])
    return Painted(_covered(example.image, mask, options["fill"]), example.image)


def _covered(image: np.ndarray, mask: np.ndarray, fill: int) -> np.ndarray:
    covered = image.copy()
    covered[mask] = fill
    return covered
