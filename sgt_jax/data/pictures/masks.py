"""Converts instance masks to pictures, the targets that a model paints, and painted pictures back to masks.

Masks are bool [N, H, W] and may overlap; pictures are uint8 [H, W, 3]. `render` paints the large masks first unless told
otherwise, so small ones stay visible. `decode` is its inverse and tolerates what a generator and an autoencoder do to flat
colours.

Two presets matter. "distinct" (recommended): unique, maximally distant colours by rank of area on black. "tab20"
(reference-like): the rank is mapped linearly onto matplotlib's 20 colours, and the ground has the first of them. There
colours repeat beyond 20 masks and the ground looks like the largest mask, so that decoding is a guess.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from sgt_jax.data.pictures import resizing
from sgt_jax.data.pictures.regions import Masks, coloured
from sgt_jax.errors import DataError, hint

# fmt: off
TAB20 = np.array([
    (31, 119, 180), (174, 199, 232), (255, 127, 14), (255, 187, 120), (44, 160, 44), (152, 223, 138), (214, 39, 40),
    (255, 152, 150), (148, 103, 189), (197, 176, 213), (140, 86, 75), (196, 156, 148), (227, 119, 194), (247, 182, 210),
    (127, 127, 127), (199, 199, 199), (188, 189, 34), (219, 219, 141), (23, 190, 207), (158, 218, 229)], np.uint8)
# fmt: on
PALETTES = ("distinct", "tab20", "random", "class")
ORDERS = ("area", "position", "given")
OVERLAPS = ("area", "given")
BLACK = (0, 0, 0)
DISTINCT_LIMIT = 700  # levels 0, 32, ... 255 of three channels give 729 colours


@functools.cache
def distinct_colours(n: int) -> np.ndarray:
    """uint8 [n, 3]: the corners of the colour cube but for black, then each as far as can be from all before.

    Far in RGB rather than in a perceptual space, because a painted colour is decoded by its distance in RGB: 255 for up
    to 7 colours, 159 for 14, 72 for 64.
    """
    if n > DISTINCT_LIMIT:
        raise DataError(
            f"{n} masks need more than {DISTINCT_LIMIT} colours; keep the largest: max_masks={DISTINCT_LIMIT}"
        )
    corners = [(1, 1, 1), (1, 0, 0), (0, 0, 1), (0, 1, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1)]
    chosen = [255.0 * np.array(c) for c in corners]
    levels = np.linspace(0, 255, 9)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    nearest = np.min([np.square(grid - c).sum(-1) for c in [np.zeros(3), *chosen]], axis=0)
    while len(chosen) < n:
        chosen.append(grid[nearest.argmax()])
        nearest = np.minimum(nearest, np.square(grid - chosen[-1]).sum(-1))
    return np.array(chosen[:n]).reshape(-1, 3).round().astype(np.uint8)


def visible(masks: np.ndarray | Masks) -> np.ndarray:
    """int32 [H, W]: which mask one sees at each pixel when large ones are painted first; 0 is none, n+1 is mask n."""
    order = np.argsort(-masks.sum((1, 2)), kind="stable").tolist()
    if isinstance(masks, Masks):
        return masks.painted(order).astype(np.int32) + 1
    labels = np.zeros(masks.shape[1:], np.int32)
    for i in order:
        labels[masks[i]] = i + 1
    return labels


def from_labels(labels: np.ndarray) -> np.ndarray:
    """Label map [H, W] (0 = no instance) to masks bool [N, H, W], in order of their labels."""
    values = np.unique(labels)
    return labels == values[values != 0][:, None, None]


def render(
    masks: np.ndarray | Masks,
    palette: str | np.ndarray = "distinct",
    *,
    order: str = "area",
    background: Sequence[int] | None = None,
    overlap: str = "area",
    outline: int = 0,
    min_area: int = 1,
    max_masks: int | None = None,
    classes: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Paints masks as one picture.

    Args:
      masks: bool [N, H, W]; N may be 0.
      palette: "distinct", "tab20", "random" (distinct colours in random order, from `rng`), "class" (fixed per class),
        or colours uint8 [K, 3] that are used in turn.
      order: which mask gets which rank and so which colour: "area" (largest first), "position" (top to bottom, left to
        right, by centre) or "given".
      background: colour where no mask is; None is the palette's own (black, for "tab20" its first colour).
      overlap: what is painted over what: "area" (small over large) or "given" (later over earlier, for masks that come
        from far to near, or by rising score).
      outline: paint only a rim of so many pixels of each mask; 0 paints all of it.
      min_area: smaller masks (in pixels) are left out.
      max_masks: keep at most so many, the largest.
      classes, class_names: for "class": the class of each mask, and all classes of the data set in a fixed order.
    """
    if order not in ORDERS:
        raise DataError(f"no mask order {order!r}; {hint(order, ORDERS, 'choose one of')}")
    if overlap not in OVERLAPS:
        raise DataError(f"no overlap {overlap!r}; {hint(overlap, OVERLAPS, 'choose one of')}")
    masks = masks if isinstance(masks, Masks) else Masks.of_array(np.asarray(masks, bool))
    area = masks.sum((1, 2))
    by_area = np.argsort(-area, kind="stable")
    kept = [int(i) for i in by_area if area[i] >= max(min_area, 1)][:max_masks]
    if order == "area":
        ranked = kept
    elif order == "position":
        centres = {i: tuple(masks.centre(i).round(1)) for i in kept}
        ranked = sorted(kept, key=centres.__getitem__)
    else:
        ranked = sorted(kept)
    kept_classes = None if classes is None else [classes[i] for i in ranked]
    colours, ground = _colours(palette, len(ranked), kept_classes, class_names, rng)
    if outline:
        masks = Masks.of_array(_Rims(masks, outline))
    table = np.empty((len(masks) + 1, 3), np.uint8)
    table[-1] = ground if background is None else background
    table[ranked] = colours
    return coloured(masks.painted(kept if overlap == "area" else sorted(kept)), table)


class _Rims:
    """The rims of masks, one at a time."""

    def __init__(self, masks: Masks, width: int) -> None:
        self.shape, self._masks, self._width = masks.shape, masks, width

    def __iter__(self) -> Iterator[np.ndarray]:
        return (_rim(mask, self._width) for mask in self._masks)


def _colours(palette, n, classes, class_names, rng) -> tuple[np.ndarray, Sequence[int]]:
    """Colours [n, 3] by rank, and the ground's."""
    if not isinstance(palette, str):
        return np.asarray(palette, np.uint8)[np.arange(n) % len(palette)], BLACK
    if palette == "distinct":
        return distinct_colours(n), BLACK
    if palette == "tab20":
        return TAB20[np.arange(n) * 20 // max(n, 1)], TAB20[0]
    if palette == "random":
        if rng is None:
            raise DataError("palette 'random' needs a random generator")
        return rng.permutation(distinct_colours(max(n, 16)))[:n], BLACK
    if palette == "class":
        if classes is None or not class_names:
            raise DataError("palette 'class' needs the classes of the masks and the option class_names")
        if unknown := sorted(set(classes) - set(class_names)):
            raise DataError(f"palette 'class': {unknown} are not among class_names")
        return distinct_colours(len(class_names))[[list(class_names).index(c) for c in classes]], BLACK
    raise DataError(f"no palette {palette!r}; {hint(palette, PALETTES, 'choose one of')}, or give colours [K, 3]")


def _rim(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask within `width` of its border; the picture's own border does not count."""
    from scipy import ndimage  # here: sampling reads no mask, and it takes 0.4 s

    return mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=1)


def resize_masks(masks: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Masks bool [N, H, W] at another (height, width): nearest, exactly like a mask picture resized so."""
    return np.moveaxis(resizing.nearest_pixels(np.moveaxis(np.asarray(masks), 0, -1), hw), -1, 0)


def resize_picture(picture: np.ndarray, wh: tuple[int, int], how: str = "nearest") -> np.ndarray:
    """A mask picture at another size: "nearest" keeps its colours, "blended" is bicubic like the reference."""
    if how not in ("nearest", "blended"):
        raise DataError(f"no resize {how!r} for mask pictures; choose 'nearest' or 'blended'")
    return resizing.resize(picture, wh, nearest=how == "nearest")


def decode(
    picture: np.ndarray,
    palette: str | np.ndarray | None = "distinct",
    *,
    background: Sequence[int] | None = BLACK,
    radius: float | None = None,
    min_area: int | None = None,
    components: bool | None = None,
    max_masks: int = 64,
) -> np.ndarray:
    """Reads instance masks bool [N, H, W] out of a mask picture, largest first.

    Args:
      picture: uint8 [H, W, 3].
      palette: a name as in `render`, colours [K, 3], or None: find the colours in the picture.
      background: the colour that means "no instance", or None if every colour is an instance (tab20, whose ground has
        the colour of the largest mask).
      radius: pixels farther than this from every colour that occurs are undecided and take after their neighbours; by
        default half the least distance between two such colours, at least 40.
      min_area: pieces of so many pixels or fewer are dropped; by default a 2000th of the picture.
      components: separate pieces of one colour are separate instances. By default only where colours repeat (tab20) or
        are unknown; an instance that another one cuts in two must stay one.
      max_masks: use only so many colours of a named palette; a small number makes a poor painting easier to read.
    """
    from scipy import ndimage

    height, width = picture.shape[:2]
    least = height * width // 2000 if min_area is None else min_area
    pixels = picture.astype(np.float32)
    known = _known_colours(palette, max_masks)
    colours = find_colours(picture, min_area=max(least, 1)) if known is None else known
    if background is not None:
        ground = np.asarray(background, np.float32)
        away = np.linalg.norm(colours - ground, axis=1) > (1 if known is not None else 60)
        colours = np.concatenate([ground[None], colours[away]])
    if known is not None:
        colours = colours[_occurring(pixels, colours, max(least // 8, 3), keep_first=background is not None)]
    labels = _settle(_decided(pixels, colours, radius), pixels, colours)
    if components is None:
        components = known is None or (isinstance(palette, str) and palette == "tab20")
    first = 0 if background is None else 1  # colours before are no instances
    found = []
    for k in range(first, len(colours)):
        pieces, n = ndimage.label(labels == k, structure=np.ones((3, 3)))
        sizes = np.bincount(pieces.ravel(), minlength=n + 1)
        large = [piece for piece in range(1, n + 1) if sizes[piece] > least]
        if components:
            found += [pieces == piece for piece in large]
        elif large:
            found.append(np.isin(pieces, large))
    found.sort(key=lambda mask: -mask.sum())
    return np.stack(found) if found else np.zeros((0, height, width), bool)


def _known_colours(palette, n: int) -> np.ndarray | None:
    if palette is None:
        return None
    if not isinstance(palette, str):
        return np.asarray(palette, np.float32)
    if palette == "tab20":
        return TAB20.astype(np.float32)
    if palette in PALETTES:
        return distinct_colours(max(n, 16) if palette == "random" else n).astype(np.float32)
    raise DataError(f"no palette {palette!r}; {hint(palette, PALETTES, 'choose one of')}, colours [K, 3] or None")


def _nearest(pixels: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the nearest colour, int32 [H, W], and its distance, float32 [H, W]."""
    flat = pixels.reshape(-1, 3)
    best = np.empty(len(flat), np.int32)
    square = np.empty(len(flat), np.float32)
    for start in range(0, len(flat), 2**15):  # so many pixels times 64 colours stay in the cache
        part = slice(start, start + 2**15)
        # |p - c|^2 without |p|^2, which is the same for all colours.
        score = np.square(colours).sum(-1) - 2 * flat[part] @ colours.T
        best[part] = score.argmin(1)
        square[part] = score.min(1) + np.square(flat[part]).sum(-1)
    return best.reshape(pixels.shape[:2]), np.sqrt(np.maximum(square, 0)).reshape(pixels.shape[:2])


def _flat(pixels: np.ndarray) -> np.ndarray:
    """Pixels bool [H, W] that differ little from their neighbours; at least two fifths of them, however noisy."""
    from scipy import ndimage

    spread = (ndimage.maximum_filter(pixels, (3, 3, 1)) - ndimage.minimum_filter(pixels, (3, 3, 1))).max(-1)
    return spread <= max(24.0, np.percentile(spread, 40))


def _gap(colours: np.ndarray) -> float:
    """The least distance between two different colours."""
    gaps = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    return float(gaps[gaps > 0].min(initial=255.0))


def _crisp(distance: np.ndarray, colours: np.ndarray) -> np.ndarray | None:
    """bool [H, W]: pixels that are a palette colour up to a little noise; None if some others are there too.

    Then nothing was blended, every pixel counts, and an instance may be as thin as it likes. Noise of 12 levels moves a
    colour by at most 21.
    """
    close = distance < min(_gap(colours) / 2, 24.0)
    return close if close.mean() > 0.998 else None


def _occurring(pixels: np.ndarray, colours: np.ndarray, least: int, keep_first: bool) -> np.ndarray:
    """Which colours of a palette a picture uses. A blurred border runs through many others, but over no flat area."""
    from scipy import ndimage

    best, distance = _nearest(pixels, colours)
    crisp = _crisp(distance, colours)
    if crisp is not None:
        votes, least = np.bincount(best[crisp], minlength=len(colours)), 0
    else:
        calm = ndimage.median_filter(pixels, (3, 3, 1))
        best, _ = _nearest(calm, colours)
        votes = np.bincount(best[_flat(calm)], minlength=len(colours))
    uses = votes > least
    uses[0] |= keep_first
    return uses if uses.any() else votes == votes.max()


def _decided(pixels: np.ndarray, colours: np.ndarray, radius: float | None) -> np.ndarray:
    """int32 [H, W]: the number of the nearest colour, -1 where the picture does not settle it."""
    best, distance = _nearest(pixels, colours)
    crisp = _crisp(distance, colours)
    if crisp is not None and radius is None:
        return np.where(crisp, best, -1)
    best[distance > (max(40.0, _gap(colours) / 2) if radius is None else radius)] = -1
    # Where two regions blend, a third colour may be nearest, in lines a pixel wide: a pixel that is not spot on needs
    # neighbours that agree.
    agreeing = sum((shifted == best).astype(np.int8) for shifted in _shifts(best, 1))
    return np.where((distance < 12) | (agreeing >= 3), best, -1)


def _shifts(labels: np.ndarray, reach: int) -> list[np.ndarray]:
    """The label maps of all neighbours within `reach`, -1 beyond the picture."""
    height, width = labels.shape
    padded = np.pad(labels, reach, constant_values=-1)
    steps = range(2 * reach + 1)
    return [padded[y : y + height, x : x + width] for y in steps for x in steps if (y, x) != (reach, reach)]


def _settle(labels: np.ndarray, pixels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Gives undecided pixels (-1) a label that several decided neighbours have: of these the one nearest in colour."""
    from scipy import ndimage

    for _ in range(4):  # inwards from the border, two pixels a time
        undecided = labels < 0
        if not undecided.any():
            return labels
        around = np.stack([shifted[undecided] for shifted in _shifts(labels, 2)])
        choice = np.full(around.shape[1], -1, np.int32)
        least = np.full(around.shape[1], np.inf, np.float32)
        for k in np.unique(around[around >= 0]):
            d = np.linalg.norm(pixels[undecided] - colours[k], axis=-1)
            better = ((around == k).sum(0) >= 3) & (d < least)
            choice[better], least[better] = k, d[better]
        labels = labels.copy()
        labels[undecided] = choice
    if (labels < 0).any() and (labels >= 0).any():  # a large undecided area: whatever is nearest
        nearest = ndimage.distance_transform_edt(labels < 0, return_distances=False, return_indices=True)
        labels = labels[tuple(nearest)]
    return labels


def find_colours(picture: np.ndarray, min_area: int = 1, apart: float = 48.0, most: int = 64) -> np.ndarray:
    """The flat colours of a picture, float32 [K, 3], most frequent first: for pictures without a known palette.

    Pixels that differ little from their neighbours vote in a colour histogram; bins are taken by size, each at least
    `apart` from those before, and moved once to the mean of the pixels around it.
    """
    from scipy import ndimage

    calm = ndimage.median_filter(picture.astype(np.float32), (3, 3, 1))
    flat = calm[_flat(calm)]
    bins, first, counts = np.unique((flat // 16).astype(int) @ (256, 16, 1), return_index=True, return_counts=True)
    chosen: list[np.ndarray] = []
    for b in np.argsort(-counts, kind="stable"):
        seed = flat[first[b]]
        if len(chosen) == most:
            break
        if chosen and np.linalg.norm(np.array(chosen) - seed, axis=1).min() < apart:
            continue
        near = flat[np.linalg.norm(flat - seed, axis=1) < apart / 2]
        centre = near.mean(0)
        if len(near) < min_area or (chosen and np.linalg.norm(np.array(chosen) - centre, axis=1).min() < apart):
            continue
        chosen.append(centre)
    return np.array(chosen, np.float32).reshape(-1, 3)
