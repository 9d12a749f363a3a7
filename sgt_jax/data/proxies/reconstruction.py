"""The low-level baseline: paint the photo again. Here, and only here, the target is the photo itself."""

from sgt_jax.data.proxies.registry import register


@register("reconstruction", level="low")
def reconstruction(example, rng, options):
    del rng, options
    return example.image, example.image
