"""Turns arrays and boxes as the EXIF orientation of their photo says, so that a photo and its masks turn alike."""

from collections.abc import Callable, Sequence

import numpy as np

USUAL = 1  # the orientation of a picture that is stored upright
# Orientation -> the array [H, W, ...] as a viewer shows it.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """An array [H, W, ...] that lies on the pixels as stored, turned upright; other orientations than 2..8 change nothing."""
    return np.ascontiguousarray(_TURNS[orientation](values)) if orientation in _TURNS else values


def swaps_sides(orientation: int) -> bool:
    """Whether the turn makes the width the height."""
    return 5 <= orientation <= 8


def turned_boxes(boxes: Sequence[Sequence[float]], orientation: int, hw: tuple[int, int]) -> list[list[float]]:
    """Boxes [left, top, right, bottom] on a stored picture of (height, width), turned upright with it."""
    height, width = hw
    found = []
    for left, top, right, bottom in boxes:
        if orientation in (2, 3, 7, 8):
            left, right = width - right, width - left
        if orientation in (3, 4, 6, 7):
            top, bottom = height - bottom, height - top
        if swaps_sides(orientation):
            left, top, right, bottom = top, left, bottom, right
        found.append([left, top, right, bottom])
    return found
