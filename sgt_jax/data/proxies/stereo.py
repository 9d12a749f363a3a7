"""A mid-level proxy: what the scene looks like from the right camera of a stereo pair."""

from sgt_jax.data.proxies.registry import Painted, lacks, register
from sgt_jax.errors import DataError


@register("stereo_view", level="mid", needs="a stereo pair (left and right in `images`)")
def stereo_view(example, rng, options):
    """The right picture of a stereo pair; the left one is shown."""
    del rng, options
    if len(example.images) != 2:
        raise lacks(example, "stereo_view")
    left, right = example.images
    if left.shape != right.shape:
        sizes = " and ".join(f"{p.shape[1]}x{p.shape[0]}" for p in (left, right))
        raise DataError(f"{example.name}: the pictures of a stereo pair must be of one size, not {sizes}")
    return Painted(left, right)
