"""The low-level baseline: paint the photo again. Here, and only here, the target is the photo that was shown."""

from sgt_jax.data.proxies.registry import Painted, register


@register("reconstruction", level="low")
def reconstruction(example, rng, options):
    """The photo itself."""
    del rng, options
    return Painted(example.image, example.image)
