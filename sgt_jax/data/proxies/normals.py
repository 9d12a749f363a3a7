"""A mid-level proxy: which way every surface faces, as a picture."""

import numpy as np

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures import maps
from sgt_jax.data.proxies.depth import distances
from sgt_jax.data.proxies.registry import Painted, register
from sgt_jax.errors import DataError

AXES = "xyz"


@register(
    "normals",
    level="mid",
    needs="depth, or a folder of normal maps (option folder)",
    folder=None,
    flip="",
    field_of_view=60.0,
    blur=0.004,
    least_known=0.2,
)
def normals(example, rng, options):
    """Surface normals as colours: x to the right is red, y upwards green, z towards the viewer blue.

    Options:
      folder: take normal maps from there (see `sgt_jax.data.pictures.maps`): arrays [H, W, 3] in -1..1, or RGB pictures of
        them.
      flip: axes of those maps that point the other way, such as "yz".
      field_of_view: degrees along the long side, where the example does not know its camera
        (`extra["intrinsics"]`: focal lengths and centre fx, fy, cx, cy in pixels). For normals from depth.
      blur: smoothing of the depth beforehand, standard deviation as a fraction of the diagonal.
      least_known: share of pixels that must be known; an example with fewer is a DataError.
    """
    del rng
    if unknown := sorted(set(options["flip"]) - set(AXES)):
        raise DataError(f"proxy 'normals': flip={options['flip']!r} names no axes {unknown}; choose from x, y, z")
    if options["folder"] is not None:
        vectors = _stored(example, options)
    else:
        distance = distances(example, "normals", options | {"folder": None})
        vectors = from_depth(distance, *_camera(example, options["field_of_view"]), blur=options["blur"])
    length = np.linalg.norm(vectors, axis=2)
    known = np.isfinite(length) & (length > 0)
    if known.mean() < options["least_known"]:
        raise DataError(f"{example.name}: normals are known at {known.mean():.1%} of the pixels, less than least_known")
    vectors = maps.filled(vectors / np.where(known, length, 1)[:, :, None], known)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-6)
    return Painted(example.image, np.round((vectors + 1) * 127.5).astype(np.uint8))


def _stored(example: Example, options: dict) -> np.ndarray:
    path = maps.find_map(options["folder"], example.name)
    values = maps.read_map(path, example.image.shape[:2], 3)
    vectors = values / 127.5 - 1 if path.suffix == ".png" else values
    return vectors * np.array([-1 if axis in options["flip"] else 1 for axis in AXES], np.float32)


def _camera(example: Example, field_of_view: float) -> tuple[float, float, float, float]:
    """Focal lengths and centre: fx, fy, cx, cy in pixels."""
    if "intrinsics" in example.extra:
        return tuple(float(v) for v in example.extra["intrinsics"])
    height, width = example.image.shape[:2]
    focal = max(height, width) / 2 / np.tan(np.radians(field_of_view) / 2)
    return focal, focal, (width - 1) / 2, (height - 1) / 2


def from_depth(depth: np.ndarray, fx: float, fy: float, cx: float, cy: float, blur: float = 0.0) -> np.ndarray:
    """Unit normals float32 [H, W, 3] (x right, y up, z to the viewer) of a depth map, NaN where it is unknown.

    Inverse depth w of a plane is linear in the pixel, so its gradient (p, q) gives the plane without constructing points:
    n ~ (fx p, fy q, w - (u - cx) p - (v - cy) q). Of the slopes to either side the smaller is taken, so that an object's
    rim keeps its own direction rather than that of the jump behind it.
    """
    from scipy import ndimage  # here: sampling needs none of it, and it takes 0.4 s

    known = np.isfinite(depth)
    w = np.where(known, 1 / np.where(known, depth, 1), 0).astype(np.float64)
    sigma = blur * float(np.hypot(*depth.shape))
    if sigma > 0:  # unknown pixels weigh nothing
        weight = ndimage.gaussian_filter(known.astype(np.float64), sigma)
        w = ndimage.gaussian_filter(w, sigma) / np.maximum(weight, 1e-9)
    w = np.where(known, w, np.nan)
    q, p = _slope(w, 0), _slope(w, 1)
    v, u = np.indices(depth.shape)
    vectors = np.stack([-fx * p, fy * q, w - (u - cx) * p - (v - cy) * q], axis=2)
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-30)).astype(np.float32)


def _slope(values: np.ndarray, axis: int) -> np.ndarray:
    """The smaller of the differences to the next and from the last pixel; NaN where neither is known."""
    step = np.diff(values, axis=axis)
    ahead, behind = (np.pad(step, [side if a == axis else (0, 0) for a in (0, 1)], constant_values=np.nan)
                     for side in ((0, 1), (1, 0)))  # fmt: skip
    take_ahead = ~(np.abs(behind) < np.abs(ahead)) & np.isfinite(ahead)
    return np.where(take_ahead, ahead, behind)
