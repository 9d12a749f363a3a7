"""A mid-level proxy: how near everything is, as a picture."""

import functools

import numpy as np

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures import maps
from sgt_jax.data.proxies.registry import Painted, choice, lacks, register
from sgt_jax.errors import DataError

COLOURS = ("inferno", "grey", "metric")
SCALES = ("inverse", "linear")
# Corners of the colour cube from black to white, each one edge from the last: the road of the metric code.
ROAD = np.array([(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1)], np.float32)


@register(
    "depth",
    level="mid",
    needs="depth, or a folder of depth maps (option folder)",
    folder=None,
    inverse=False,
    unit=1.0,
    colours="inferno",
    scale="inverse",
    clip=0.01,
    unknown="fill",
    least_known=0.2,
)
def depth(example, rng, options):
    """Depth as a picture: the inferno colours (near is bright), grey, or a code of the metric depth.

    Options:
      folder: take maps from there (see `sgt_jax.data.pictures.maps`) instead of the example's own depth.
      inverse: those maps hold disparity or inverse depth (larger is nearer), as most networks give.
      unit: what the maps' numbers are multiplied by; 0.001 for 16-bit PNGs in millimetres.
      colours: "inferno" or "grey": nearness between the picture's own extremes. "metric": metres, decodable.
      scale: nearness is 1 / depth ("inverse", what networks show) or -depth ("linear").
      clip: share of the pixels beyond each extreme.
      unknown: "fill" smoothly from around, or a colour (r, g, b).
      least_known: share of pixels that must be known; an example with fewer is a DataError.
    """
    del rng
    colours = choice("depth", options, "colours", COLOURS)
    distance = distances(example, "depth", options)
    known = np.isfinite(distance)
    distance = maps.filled(distance, known)
    if colours == "metric":
        target = metric_picture(distance)
    else:
        near = 1 / distance if choice("depth", options, "scale", SCALES) == "inverse" else -distance
        low, high = np.quantile(near[known], (options["clip"], 1 - options["clip"]))
        level = np.clip((near - low) / (high - low), 0, 1) if high > low else np.full(near.shape, 0.5)
        target = _ramp(colours)[(level * 255 + 0.5).astype(int)]
    if options["unknown"] != "fill":
        target[~known] = options["unknown"]
    return Painted(example.image, target)


def distances(example: Example, proxy: str, options: dict) -> np.ndarray:
    """float32 [H, W] of the photo's size: distance from the camera, infinity included; NaN where unknown.

    Zeros and negative numbers are no distances. The infinite distance of a vanishing disparity becomes the largest
    float, so that 1 / distance is right.
    """
    size = example.image.shape[:2]
    if options["folder"] is not None:
        values = maps.read_map(maps.find_map(options["folder"], example.name), size, 1) * np.float32(options["unit"])
    elif example.depth is not None:
        values = np.array(example.depth, np.float32)
    else:
        raise lacks(example, proxy)
    if values.shape != size:
        raise DataError(f"{example.name}: depth {values.shape} is not of the picture's size {size}")
    inverse = options.get("inverse", False) and options["folder"] is not None
    bad = ~np.isfinite(values) | ((values < 0) if inverse else (values <= 0))
    values[bad] = np.nan
    if inverse:
        values = 1 / np.maximum(values, np.float32(1e-30))
    known = 1 - bad.mean()
    if known < max(options["least_known"], 1e-6):
        raise DataError(
            f"{example.name}: depth is known at {known:.1%} of the pixels, less than least_known={options['least_known']}"
        )
    return values


@functools.cache
def _ramp(colours: str) -> np.ndarray:
    """uint8 [256, 3]."""
    if colours == "grey":
        return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    import matplotlib  # a quarter of a second that only this proxy should pay

    return np.round(np.array(matplotlib.colormaps[colours].colors) * 255).astype(np.uint8)


def metric_picture(metres: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] after Vision Banana's code: compressed to 0..1, then along `ROAD`; near is black, far white.

    The compression 1 - (1 + d / 10)^-2 spends half of the colours on the nearest four metres.
    """
    place = (1 - (1 + np.asarray(metres, np.float32) / 10) ** -2) * (len(ROAD) - 1)
    edge = np.minimum(place.astype(int), len(ROAD) - 2)
    within = (place - edge)[..., None]
    return np.round((ROAD[edge] * (1 - within) + ROAD[edge + 1] * within) * 255).astype(np.uint8)


def read_metric(picture: np.ndarray) -> np.ndarray:
    """The depth in metres, float32 [H, W], of a picture in the metric code: every pixel goes to the nearest edge."""
    colour = picture.astype(np.float32) / 255
    places, gaps = [], []
    for number, (a, b) in enumerate(zip(ROAD[:-1], ROAD[1:], strict=True)):
        within = np.clip((colour - a) @ (b - a), 0, 1)
        gaps.append(np.square(colour - a - within[..., None] * (b - a)).sum(-1))
        places.append(number + within)
    best = np.argmin(gaps, 0)
    place = np.take_along_axis(np.stack(places), best[None], 0)[0] / (len(ROAD) - 1)
    return 10 * (np.maximum(1 - place, 1e-6) ** -0.5 - 1)
