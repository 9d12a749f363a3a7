"""Low-level proxies that show a corrupted photo and ask for the clean one. Condition and target lie on the same pixels."""

import numpy as np
from PIL import Image

from sgt_jax.data.pictures import corruptions
from sgt_jax.data.proxies.jigsaw import cut_to_multiple
from sgt_jax.data.proxies.registry import Painted, lacks, register

STRENGTHS = (0.4, 0.6, 0.8)


@register("denoising", level="low", sigma=(5, 50), quality=(30, 50), photons=(10, 50), salt=(0.005, 0.05))
def denoising(example, rng, options):
    """The photo without noise (Gaussian, photon, salt and pepper) and JPEG artefacts.

    Options are ranges; `sigma` is of 255, `photons` per pixel at full brightness, `salt` a share of the pixels.
    """
    return Painted(corruptions.noisy(example.image, rng, **options), example.image)


@register("deblurring", level="low", lengths=(10, 20, 30))
def deblurring(example, rng, options):
    """The photo without motion blur of a random direction."""
    spoilt = corruptions.motion_blurred(example.image, rng.choice(options["lengths"]), rng.uniform(0, 360))
    return Painted(spoilt, example.image)


@register("deraining", level="low", strengths=STRENGTHS)
def deraining(example, rng, options):
    """The photo without rain."""
    return Painted(corruptions.rainy(example.image, rng, rng.choice(options["strengths"])), example.image)


@register("defogging", level="low", strengths=STRENGTHS)
def defogging(example, rng, options):
    """The photo without fog."""
    return Painted(corruptions.foggy(example.image, rng, rng.choice(options["strengths"])), example.image)


@register("low_light", level="low", brightness=(0.1, 0.5), sigma=(0.01, 0.04))
def low_light(example, rng, options):
    """The photo in good light, without the noise of the dark one.

    Options are ranges: a factor, and the standard deviation of the noise on 0..1.
    """
    brightness, sigma = rng.uniform(*options["brightness"]), rng.uniform(*options["sigma"])
    return Painted(corruptions.dark(example.image, rng, brightness, sigma), example.image)


@register("super_resolution", level="low", factors=(2, 4, 6, 8))
def super_resolution(example, rng, options):
    """The photo in full resolution; the one shown is coarser, at the same size.

    Both are cut to a multiple of the factor, in the middle: the reference cuts only one, and its pairs are shifted.
    """
    side = min(example.image.shape[:2])
    factors = [factor for factor in options["factors"] if 2 * factor <= side]
    if not factors:
        raise lacks(example, "super_resolution", f"a picture of at least {2 * min(options['factors'])} pixels a side")
    factor = int(rng.choice(factors))
    photo = cut_to_multiple(example.image, factor)
    return Painted(corruptions.coarse(photo, factor), photo)


@register("colourisation", level="low", needs="a picture in colour", least_chroma=12.0)
def colourisation(example, rng, options):
    """The photo in colour; the one shown is grey.

    A photo of which not even a fiftieth has channels that differ by `least_chroma` (of 255) has no colours to give back.
    """
    del rng
    if np.quantile(np.ptp(example.image, axis=2), 0.98) < options["least_chroma"]:
        raise lacks(example, "colourisation")
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(example.image)).convert("L"))
    return Painted(np.repeat(grey[:, :, None], 3, axis=2), example.image)
