"""A mid-level proxy: put the shuffled tiles of a photo in order."""

import math
from collections.abc import Sequence

import numpy as np

from sgt_jax.data.proxies.registry import Painted, register
from sgt_jax.errors import DataError


@register("jigsaw", level="mid", grid=3)
def jigsaw(example, rng, options):
    """The photo; the one shown has its tiles shuffled, `grid` x `grid` of them.

    Both are cut to a multiple of the grid, in the middle, so that all tiles have one size.
    """
    n = int(options["grid"])
    if not 2 <= n <= min(example.image.shape[:2]):
        raise DataError(
            f"{example.name}: proxy 'jigsaw' cannot cut {example.image.shape[:2]} pixels into {n} x {n} tiles"
        )
    photo = cut_to_multiple(example.image, n)
    order = np.arange(n * n)
    while (order == np.arange(n * n)).all():  # tiles that lie where they were are no puzzle
        order = rng.permutation(n * n)
    return Painted(shuffled(photo, order), photo)


def shuffled(photo: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The tiles of a picture in another order: place k of the result, row by row, shows tile order[k].

    Args:
      photo: [H, W, 3], both sides multiples of n.
      order: a permutation of the n * n tiles.
    """
    n = math.isqrt(len(order))
    return _grid(tiles(photo, n)[np.asarray(order)], n)


def cut_to_multiple(image: np.ndarray, n: int) -> np.ndarray:
    """The middle of a picture, its sides cut to multiples of n (at most n - 1 pixels less)."""
    top, left = (side % n // 2 for side in image.shape[:2])
    height, width = (side - side % n for side in image.shape[:2])
    return image[top : top + height, left : left + width]


def tiles(photo: np.ndarray, n: int) -> np.ndarray:
    """The n x n tiles of a picture [H, W, 3], row by row: [n * n, H / n, W / n, 3]."""
    height, width = photo.shape[0] // n, photo.shape[1] // n
    return photo.reshape(n, height, n, width, 3).swapaxes(1, 2).reshape(n * n, height, width, 3)


def _grid(tiles: np.ndarray, n: int) -> np.ndarray:
    _, height, width, _ = tiles.shape
    return tiles.reshape(n, n, height, width, 3).swapaxes(1, 2).reshape(n * height, n * width, 3)
