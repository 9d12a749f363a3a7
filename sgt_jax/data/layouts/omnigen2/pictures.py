"""How Qwen2.5-VL reads pictures: resized by one rule, cut into patches, laid out window by window. NumPy only.

A *cell* is merge x merge patches, which become one image token. Windows are squares of cells; smaller ones at the right
and lower edge. Rows of patches always keep the patches of a cell together.
"""

import dataclasses
import math

import numpy as np

from sgt_jax.data.pictures.resizing import resize
from sgt_jax.errors import DataError

# Of the pictures that CLIP was trained on, per channel; a protocol constant of Qwen's processor.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
MIN_PIXELS, MAX_PIXELS = 256 * 28 * 28, 1280 * 28 * 28  # of the reference's training
_LONGEST_ASPECT = 200


def qwen_size(height: int, width: int, stride: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The size (height, width) that Qwen's processor gives a picture: multiples of `stride`, pixels within bounds.

    Args:
      stride: pixels per image token on a side, patch x merge.

    Raises:
      DataError: one side is more than 200 times the other.
    """
    if max(height, width) > _LONGEST_ASPECT * min(height, width):
        raise DataError(
            f"a picture of {width}x{height} pixels is too thin to read: sides may differ {_LONGEST_ASPECT} times"
        )
    high, wide = (round(side / stride) * stride for side in (height, width))
    if high * wide > max_pixels:
        factor = math.sqrt(height * width / max_pixels)
        high, wide = (max(stride, math.floor(side / factor / stride) * stride) for side in (height, width))
    elif high * wide < min_pixels:
        factor = math.sqrt(min_pixels / (height * width))
        high, wide = (math.ceil(side * factor / stride) * stride for side in (height, width))
    return high, wide


@dataclasses.dataclass(frozen=True)
class QwenRule:
    """`qwen_size` with its numbers; used like `data.pictures.resizing.ResizeRule`."""

    stride: int
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS

    def size(self, width: int, height: int, pictures: int = 1) -> tuple[int, int]:
        """The size (width, height) that a picture is given; `pictures` share the largest number of pixels."""
        limit = max(self.max_pixels // pictures, self.stride**2)
        return qwen_size(height, width, self.stride, min(self.min_pixels, limit), limit)[::-1]

    def __call__(self, image: np.ndarray, pictures: int = 1, nearest: bool = False) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 at the size that the rule gives."""
        return resize(image, self.size(image.shape[1], image.shape[0], pictures), nearest=nearest)


def patches(image: np.ndarray, patch: int, merge: int) -> np.ndarray:
    """[H, W, C] -> [H/p * W/p, C*p*p], values (channel, y, x); cells row by row, and row by row inside a cell."""
    height, width, channels = image.shape
    stride = patch * merge
    cells = image.reshape(height // stride, merge, patch, width // stride, merge, patch, channels)
    return cells.transpose(0, 3, 1, 4, 6, 2, 5).reshape(-1, channels * patch**2)


def normalised(frame: np.ndarray, frames: int) -> np.ndarray:
    """uint8 patches of one frame [P, C*p*p] -> float32 [P, C*frames*p*p], values (channel, frame, y, x)."""
    count, channels = len(frame), len(MEAN)
    x = frame.reshape(count, channels, 1, -1).astype(np.float32) / np.float32(255)
    x = (x - np.float32(MEAN)[:, None, None]) / np.float32(STD)[:, None, None]
    return np.repeat(x, frames, axis=2).reshape(count, -1)


def places(rows: int, columns: int, merge: int) -> np.ndarray:
    """(row, column) of every patch of a grid of rows x columns patches, in the order of `patches`: [P, 2]."""
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
    cells = grid.reshape(rows // merge, merge, columns // merge, merge, 2)
    return cells.transpose(0, 2, 1, 3, 4).reshape(-1, 2).astype(np.int32)


def windows(rows: int, columns: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of cells in which windows stand one after the other.

    Args:
      rows, columns: of the grid of cells.
      window: cells per side of a window.

    Returns:
      order: int [cells]; entry i is the raster number of the cell that stands at place i.
      number: int [cells]; the window, from 0, of the cell at place i.
    """
    row, column = (x.reshape(-1) for x in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    square = row // window * -(-columns // window) + column // window
    order = np.argsort(square, kind="stable")
    return order.astype(np.int32), square[order].astype(np.int32)


def in_cells(order: np.ndarray, merge: int) -> np.ndarray:
    """An order of cells as the order of their patches."""
    inside = np.arange(merge**2)
    return (order[:, None] * merge**2 + inside).reshape(-1)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Makes what the vision lane wants of pictures; sizes are those of `vision_config`.

    Attributes:
      patch, merge: pixels per side of a patch, patches per side of a cell.
      window: pixels per side of a window.
    """

    patch: int
    merge: int
    window: int

    @property
    def stride(self) -> int:
        """Pixels per image token on a side."""
        return self.patch * self.merge

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Cells of a picture: (rows, columns)."""
        return height // self.stride, width // self.stride

    def read(self, image: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """A picture uint8 [H, W, 3], resized before, as fields of the vision lane.

        Returns:
          {"patches" uint8 [P, C*p*p], "row", "column", "window" int32 [P]} in the order of windows; int32 [cells], the
          place in that order of every cell of the raster.
        """
        rows, columns = self.grid(*image.shape[:2])
        order, number = windows(rows, columns, self.window // self.stride)
        of_patches = in_cells(order, self.merge)
        row, column = places(rows * self.merge, columns * self.merge, self.merge)[of_patches].T
        fields = {
            "patches": patches(image, self.patch, self.merge)[of_patches],
            "row": row,
            "column": column,
            "window": np.repeat(number, self.merge**2),
        }
        return fields, np.argsort(order).astype(np.int32)
