"""How much of a mask picture can be read back, without any model: what the picture's own way through the world costs.

A score of painted masks means little without it: colours may repeat, a resize may blend them, an autoencoder may not bring
them back. `survival` renders, damages and decodes; docs/proxies.md has the figures.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial import cKDTree

from sgt_jax.data.pictures import masks
from sgt_jax.errors import DataError
from sgt_jax.evaluation.rules import segmentation

# Pictures uint8 [N, H, W, 3] -> the same pictures, damaged; possibly of another size.
Damage = Callable[[np.ndarray], np.ndarray]


def cells(n: int, side: int, seed: int = 0) -> np.ndarray:
    """n masks bool [n, side, side]: what is nearest to each of n random points, and no ground in between.

    The hardest case for a palette: every border lies between two colours. Points are drawn again until all cells have at
    least a 1000th of the picture.
    """
    rng = np.random.default_rng((seed, n, side))
    pixels = np.stack(np.indices((side, side)), -1).reshape(-1, 2)
    for _ in range(1000):
        _, nearest = cKDTree(rng.random((n, 2)) * side).query(pixels)
        found = nearest.reshape(side, side) == np.arange(n)[:, None, None]
        if found.sum((1, 2)).min() > side * side / 1000:
            return found
    raise DataError(
        f"no {n} cells of a thousandth of {side} x {side} pixels were found; ask for fewer or a larger side"
    )


def survival(
    instances: Sequence[np.ndarray],
    palette: str | None,
    damage: Damage | None = None,
    *,
    seed: int = 0,
    min_area: int | None = None,
) -> dict[str, float]:
    """Mean scores of what comes back of `instances`, and "count", the share of pictures with the right number of masks.

    Args:
      instances: masks bool [N, H, W] per picture, all of one size; what others hide is not expected back.
      palette: as in `masks.render`; "class" gives each mask a class of its own; None renders "distinct" and decodes as if
        the colours were unknown.
      damage: what happens between rendering and decoding; None is nothing.
      seed: of the palette "random".
      min_area: of `masks.decode`.
    """
    pictures = []
    for i, found in enumerate(instances):
        names = [str(k) for k in range(len(found))]
        rng = np.random.default_rng((seed, i))
        pictures.append(masks.render(found, palette or "distinct", classes=names, class_names=names, rng=rng))
    shown = np.stack(pictures)
    if damage is not None:
        shown = damage(shown)
    ground = None if palette == "tab20" else masks.BLACK
    rows = []
    for picture, found in zip(shown, instances, strict=True):
        truth = masks.resize_masks(masks.from_labels(masks.visible(found)), picture.shape[:2])
        most = max(16, len(truth))  # colours that a decoder must reckon with
        decoded = masks.decode(picture, palette, background=ground, min_area=min_area, max_masks=most)
        rows.append(segmentation.scores(decoded, truth) | {"count": float(len(decoded) == len(truth))})
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def noise(levels: int, seed: int = 0) -> Damage:
    """Uniform noise of up to so many grey levels either way, on every channel of every pixel."""

    def damage(pictures: np.ndarray) -> np.ndarray:
        drawn = np.random.default_rng(seed).integers(-levels, levels + 1, pictures.shape)
        return np.clip(pictures + drawn, 0, 255).astype(np.uint8)

    return damage


def resized(factor: float, how: str) -> Damage:
    """Resized as mask pictures are ("nearest", or "blended" like the reference)."""

    def damage(pictures: np.ndarray) -> np.ndarray:
        size = round(pictures.shape[2] * factor), round(pictures.shape[1] * factor)
        return np.stack([masks.resize_picture(picture, size, how) for picture in pictures])

    return damage
