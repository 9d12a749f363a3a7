"""Says what a drawn picture shows, for pictures of procedural scenes: no network, so no doubt about the judge.

Pixels go to the nearest palette colour or to the grey ground, pieces of one colour are objects, and each object's shape
is the one whose template fits best, where nearer objects may hide part of it. On true renders this is right nearly
always (the test states how often), so that a low score means a bad picture.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from sgt_jax.data.sources.scenes import drawing
from sgt_jax.data.sources.scenes.captions import Caption, parse_caption
from sgt_jax.data.sources.scenes.phrases import MARGIN, holding_relations
from sgt_jax.data.sources.scenes.world import Scene
from sgt_jax.evaluation.rules.geneval import Thing

GROUND = (70.0, 165.0)  # grey levels that count as ground
GROUND_SPREAD = 25.0  # how far tint and clouds take the ground from that line
MIN_AREA = 0.008  # of the picture: smaller pieces are debris
MIN_FIT = 0.6  # overlap with the best template below which a thing has no shape
NO_SHAPE = "blob"


def colour_map(picture: np.ndarray, colours: Sequence[str]) -> np.ndarray:
    """int32 [H, W]: 0 for ground, k+1 where colours[k] is nearest."""
    pixels = picture.astype(np.float32)
    grey = np.clip(pixels.mean(-1), *GROUND)
    best = np.maximum(np.linalg.norm(pixels - grey[..., None], axis=-1) - GROUND_SPREAD, 0)
    labels = np.zeros(picture.shape[:2], np.int32)
    for k, name in enumerate(colours):
        plain = np.array(drawing.COLOURS[name], np.float32)
        for colour in (plain, drawing.shade(plain)):
            distance = np.linalg.norm(pixels - colour, axis=-1)
            closer = distance < best
            labels[closer], best[closer] = k + 1, distance[closer]
    return labels


def parse(
    picture: np.ndarray,
    colours: Sequence[str] | None = None,
    shapes: Sequence[str] | None = None,
    rotations: Sequence[float] = (0.0,),
) -> list[Thing]:
    """The objects in a picture uint8 [S, S, 3], largest first.

    Args:
      picture: a true or generated picture of a scene.
      colours, shapes: what to look for (default: all there are); fewer are told apart more safely.
      rotations: degrees by which templates are turned.
    """
    colours, shapes = tuple(colours or drawing.COLOURS), tuple(shapes or drawing.SHAPES)
    labels = colour_map(picture, colours)
    pieces = []
    for k, colour in enumerate(colours):
        numbered, n = ndimage.label(labels == k + 1, structure=np.ones((3, 3)))
        sizes = np.bincount(numbered.ravel(), minlength=n + 1)
        pieces += [(colour, numbered == i) for i in range(1, n + 1) if sizes[i] >= MIN_AREA * labels.size]
    taken = np.zeros(labels.shape, bool)
    for _, mask in pieces:
        taken |= mask
    found = []
    for colour, mask in pieces:
        shape, fit, (x, y) = _best_shape(mask, taken & ~mask, shapes, rotations)
        wide, high = (float(mask.any(axis).sum()) / len(mask) for axis in (0, 1))
        found.append(Thing(colour, shape if fit >= MIN_FIT else NO_SHAPE, x, y, int(mask.sum()), fit, wide, high))
    return sorted(found, key=lambda thing: -thing.area)


def _best_shape(mask, others, shapes, rotations) -> tuple[str, float, tuple[float, float]]:
    """Shape, overlap and centre of the template that fits best: what other objects cover does not count against it."""
    size = mask.shape[0]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    # Which sides of the bounding box may be cut off by something else: those can lie farther out.
    near = ndimage.binary_dilation(others, iterations=2) & mask
    cut_y, cut_x = near[[top, bottom - 1]].any(1), near[:, [left, right - 1]].any(0)
    best = (NO_SHAPE, 0.0, ((left + right) / 2 / size, (top + bottom) / 2 / size))
    for shape in shapes:
        for rotation in rotations if drawing.SHAPES[shape] is not None else (0.0,):
            wide, high = drawing.half_extent(shape, rotation)
            for radius in {(right - left) / 2 / wide, (bottom - top) / 2 / high}:
                for x in _centres(left, right, radius * wide, cut_x):
                    for y in _centres(top, bottom, radius * high, cut_y):
                        fit = _fit(mask, others, shape, rotation, x / size, y / size, radius / size)
                        if fit > best[1]:
                            best = (shape, fit, (x / size, y / size))
    return best


def _centres(low: int, high: int, half: float, cut: np.ndarray) -> set[float]:
    """Where along one axis a template's centre may be: in the middle, or held by the side that is not cut off."""
    centres = {(low + high) / 2}
    if cut.any():
        centres |= {low + half, high - half}
    return centres


def _fit(mask, others, shape, rotation, x, y, radius) -> float:
    size = mask.shape[0]
    wide, high = (radius * extent for extent in drawing.half_extent(shape, rotation))
    if min(x, y) <= 0 or max(x, y) >= 1 or min(wide, high) * size < 1:
        return 0.0
    box = drawing.cover(shape, rotation, x, y, radius, size)
    template = np.zeros(mask.shape, bool)
    template[box.window] = box.coverage >= 128
    union = (template & ~others) | mask
    return float((template & mask).sum() / union.sum())


def score_picture(
    scene: Scene | None, caption: str | None, picture: np.ndarray | Sequence[Thing]
) -> dict[str, bool | None]:
    """Judges a picture by the caption that it was drawn from, or, without a caption, by a scene.

    Args:
      scene: tells which colours and shapes to expect; None means all. Without a caption, also what must be there.
      caption: the prompt, one that `captions.caption` could have written.
      picture: uint8 [S, S, 3], or what `parse` made of it.

    Returns:
      objects: each wanted object is there, in its colour and shape; there may be others.
      colours: exactly the wanted colours occur; None if the caption names none.
      count: as many objects as wanted.
      exact: exactly the wanted objects, in colour (where named) and shape.
      relation: the stated relation holds (colours name the objects where they can); None if none is stated.
    """
    if caption is None:
        if scene is None:
            raise ValueError("score_picture needs a scene or a caption")
        groups = Counter((o.colour, o.shape) for o in scene.objects)
        wanted = Caption(tuple((n, colour, shape) for (colour, shape), n in groups.items()))
    else:
        wanted = parse_caption(caption)
    if isinstance(picture, np.ndarray):
        if scene is None:
            picture = parse(picture)
        else:
            rotations = sorted({0.0, *(o.rotation for o in scene.objects)})
            picture = parse(picture, scene.colours, scene.shapes, rotations)
    asked = Counter({(colour, shape): n for n, colour, shape in wanted.groups})
    bare = any(colour is None for colour, _ in asked)
    drawn = Counter((None if bare else thing.colour, thing.shape) for thing in picture)
    return {
        "objects": all(drawn[key] >= n for key, n in asked.items()),
        "colours": None if bare else {colour for colour, _ in asked} == {colour for colour, _ in drawn},
        "count": asked.total() == drawn.total(),
        "exact": asked == drawn,
        "relation": None if wanted.relation is None else _relation_holds(wanted, picture),
    }


def _relation_holds(wanted: Caption, things: Sequence[Thing]) -> bool:
    """True if some pair of the named things stands so; half the margin of the questions is enough."""
    (_, colour_a, shape_a), (_, colour_b, shape_b) = wanted.groups[:2]

    def named(colour, shape):
        by_shape = colour is None or colour_a == colour_b
        return [t for t in things if colour in (None, t.colour) and (not by_shape or t.shape == shape)]

    return any(
        wanted.relation in holding_relations(a.x, a.y, b.x, b.y, MARGIN / 2)
        for a in named(colour_a, shape_a)
        for b in named(colour_b, shape_b)
    )
