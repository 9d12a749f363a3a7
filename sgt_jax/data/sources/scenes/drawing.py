"""Draws scenes: flat shapes with exact masks on a grey textured ground, fast enough to feed a training run.

Geometry is in fractions of the picture side, x to the right and y downwards. Every shape is drawn by Pillow
in its own small box at several times the resolution and averaged down, so borders are anti-aliased and the
coverage is exact.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

# Six saturated hues and white: at least 170 apart in RGB, and 110 from the grey ground. The last
# two are there to be asked for by name; orange is only 90 from yellow.
COLOURS = {
    "red": (225, 20, 30),
    "green": (20, 165, 45),
    "blue": (30, 50, 230),
    "yellow": (250, 225, 25),
    "purple": (205, 40, 215),
    "cyan": (35, 220, 230),
    "white": (252, 252, 252),
    "orange": (255, 135, 15),
    "black": (8, 8, 8),
}
PATTERNS = ("plain", "striped", "dotted")
SUPERSAMPLING = 4


def _regular(corners: int, start: float, inner: float | None = None) -> np.ndarray:
    """Corners [n, 2] of a regular polygon; with `inner`, a star whose inner corners lie at that radius."""
    count = corners if inner is None else 2 * corners
    angle = np.deg2rad(start) + 2 * np.pi * np.arange(count) / count
    radius = np.ones(count)
    if inner is not None:
        radius[1::2] = inner
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _cross(arm: float) -> np.ndarray:
    quarter = np.array([(arm, -1), (arm, -arm), (1, -arm)])
    turns = [np.array([[0, -1], [1, 0]]), np.array([[-1, 0], [0, -1]]), np.array([[0, 1], [-1, 0]])]
    return np.concatenate([quarter, *(quarter @ turn.T for turn in turns)])


def _centred(points: np.ndarray, scale: float) -> np.ndarray:
    """Moves the middle of the bounding box to the origin: a shape's centre is where the eye puts it."""
    return (points - (points.min(0) + points.max(0)) / 2) * scale


# Corners at radius 1; scales even out the areas a little without letting corners stick out far. None: round.
SHAPES: dict[str, np.ndarray | None] = {
    "circle": None,
    "square": _centred(_regular(4, 45), 1.27),
    "triangle": _centred(np.array([(0, -1), (1.1, 0.95), (-1.1, 0.95)]), 1.0),
    "star": _centred(_regular(5, -90, 0.42), 1.2),
    "ring": None,
    "cross": _cross(0.34),
    "diamond": _centred(_regular(4, 0), 1.12),
    "hexagon": _centred(_regular(6, 0), 1.05),
}
RING_HOLE = 0.52


class Box(NamedTuple):
    """What one object covers: pixels [top:top+h, left:left+w] with coverage uint8 [h, w]."""

    top: int
    left: int
    coverage: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.coverage.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def outline(shape: str, rotation: float) -> np.ndarray | None:
    """Corners [n, 2] of a shape of radius 1, turned by `rotation` degrees; None for round shapes."""
    corners = SHAPES[shape]
    if corners is None or not rotation:
        return corners
    c, s = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    return _centred(corners @ np.array([[c, s], [-s, c]]), 1.0)


@functools.lru_cache(maxsize=64)  # unturned shapes come again and again
def half_extent(shape: str, rotation: float) -> tuple[float, float]:
    """Half width and half height of the bounding box of a shape of radius 1."""
    corners = outline(shape, rotation)
    if corners is None:
        return 1.0, 1.0
    return tuple(np.abs(corners).max(0))


def cover(shape: str, rotation: float, x: float, y: float, radius: float, size: int) -> Box:
    """The coverage of one shape in a picture of `size` x `size` pixels."""
    wide, high = half_extent(shape, rotation)
    left = max(int(math.floor((x - radius * wide) * size)), 0)
    top = max(int(math.floor((y - radius * high) * size)), 0)
    right = min(int(math.ceil((x + radius * wide) * size)), size)
    bottom = min(int(math.ceil((y + radius * high) * size)), size)
    k = SUPERSAMPLING
    stencil = Image.new("L", ((right - left) * k, (bottom - top) * k))
    draw = ImageDraw.Draw(stencil)
    # Pillow's pixel (i, j) has its centre at (i + 0.5, j + 0.5), hence the half.
    cx, cy, r = (x * size - left) * k - 0.5, (y * size - top) * k - 0.5, radius * size * k
    corners = outline(shape, rotation)
    if corners is None:
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=255)
        if shape == "ring":
            hole = r * RING_HOLE
            draw.ellipse((cx - hole, cy - hole, cx + hole, cy + hole), fill=0)
    else:
        draw.polygon((corners * r + (cx, cy)).ravel().tolist(), fill=255)
    return Box(top, left, np.asarray(stencil.reduce(k)))


def ground(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A greyish ground float32 [S, S, 3] (clouds, a faint tint, grain) and its grain float32 [S, S, 1]."""
    cells = int(rng.integers(2, 7))
    clouds = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    clouds = np.asarray(clouds.resize((size, size), Image.Resampling.BICUBIC))[:, :, None]
    grain = rng.standard_normal((size, size, 1), dtype=np.float32)
    level, contrast, roughness = rng.random(3, dtype=np.float32) * (55, 12, 6) + (85, 4, 2)
    tint = rng.standard_normal(3, dtype=np.float32) * 5
    return (level + contrast * clouds + roughness * grain + tint).astype(np.float32), grain


def shade(colour: np.ndarray) -> np.ndarray:
    """The second colour of a patterned surface: darker, and for white or black a grey unlike the ground's."""
    if np.ptp(colour) > 100:
        return colour * np.float32(0.55)
    return colour + (127 - colour) * np.float32(0.55)


def shaded(pattern: str, phase: float, period: float, box: Box, x: float, y: float) -> np.ndarray:
    """Which pixels of a patterned object carry its second colour: bool [h, w, 1].

    (x, y) is the object's centre in pixels; `phase` in [0, 1) picks the direction of the stripes.
    """
    height, width = box.coverage.shape
    across = (np.arange(width, dtype=np.float32) + (box.left + 0.5 - x)) / period
    down = ((np.arange(height, dtype=np.float32) + (box.top + 0.5 - y)) / period)[:, None]
    if pattern == "striped":
        slope = ((1.0, 0.0), (0.0, 1.0), (0.7, 0.7), (0.7, -0.7))[int(phase * 4)]
        dark = np.cos(2 * np.pi * (across * slope[0] + down * slope[1])) > 0
    else:
        dark = np.cos(2 * np.pi * across) + np.cos(2 * np.pi * down) > 0.55
    return dark[:, :, None]
