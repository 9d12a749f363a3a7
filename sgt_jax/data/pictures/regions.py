"""Instance masks as runs of pixels: hundreds of masks of one photo in little memory, painted without ever being pictures.

A run is (start, stop) in the picture read column by column, as COCO's run lengths are; each mask is an array of runs
int64 [R, 2], in order and apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.data.pictures import rle, upright
from sgt_jax.errors import DataError

_ROWS = 64  # of a picture that are coloured at once


class Masks:
    """N masks of one picture, [N, H, W], that may overlap. Reads like a bool array of that shape, one mask at a time.

    Attributes:
      shape: (N, H, W).
      runs: of each mask.
    """

    dtype = np.dtype(bool)
    ndim = 3

    def __init__(self, hw: Sequence[int], runs: Sequence[np.ndarray]) -> None:
        self.runs = list(runs)
        self.shape = (len(self.runs), int(hw[0]), int(hw[1]))

    @classmethod
    def of_runs(cls, segmentations: Sequence[Mapping[str, Any]]) -> "Masks":
        """From COCO's {"size": [H, W], "counts": string or list}, all of one size.

        Raises:
          DataError: runs do not fill the size, or sizes differ.
        """
        sizes = {tuple(int(side) for side in one["size"]) for one in segmentations}
        if len(sizes) != 1 or len(hw := sizes.pop()) != 2:
            raise DataError("the masks of one picture differ in size, or have none; correct the annotation")
        return cls(hw, [rle.foreground(one) for one in segmentations])

    @classmethod
    def of_ids(cls, ids: np.ndarray, numbers: Sequence[int]) -> "Masks":
        """From a picture of segment ids int [H, W]: a mask for each of `numbers`, which all differ."""
        flat = ids.T.reshape(-1)
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        starts, stops = np.concatenate([[0], edges]), np.concatenate([edges, [flat.size]])
        if not flat.size:
            return cls(ids.shape, [np.zeros((0, 2), np.int64) for _ in numbers])
        values = flat[starts]
        order = np.argsort(values, kind="stable")
        bounds = np.searchsorted(values[order], np.asarray(numbers, values.dtype).reshape(-1, 1) + [0, 1])
        runs = np.stack([starts, stops], 1)
        return cls(ids.shape, [runs[order[first:last]] for first, last in bounds.tolist()])

    @classmethod
    def of_array(cls, masks: np.ndarray) -> "Masks":
        """From bool [N, H, W]."""
        return cls(np.shape(masks)[1:], [_runs(mask) for mask in masks])

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.mask, range(len(self)))

    def mask(self, i: int) -> np.ndarray:
        """Mask i as bool [H, W]."""
        _, height, width = self.shape
        flat = np.zeros(width * height, bool)
        for start, stop in self.runs[i].tolist():
            flat[start:stop] = True
        return flat.reshape(width, height).T

    def __getitem__(self, key: Any) -> Any:
        """One mask bool [H, W] by its number; some of them as Masks by a slice, bools or numbers."""
        if isinstance(key, int | np.integer):
            return self.mask(range(len(self))[int(key)])
        if isinstance(key, tuple):  # pixels are asked for
            return np.asarray(self)[key]
        return Masks(self.shape[1:], [self.runs[i] for i in np.arange(len(self))[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        found = np.zeros(self.shape, bool)
        for i, mask in enumerate(self):
            found[i] = mask
        return found if dtype is None else found.astype(dtype)

    def sum(self, axis: Any = None) -> Any:
        """As of an array; the areas, axis (1, 2), come from the runs alone."""
        if axis == (1, 2):
            return np.array([int((one[:, 1] - one[:, 0]).sum()) for one in self.runs], np.int64)
        return np.asarray(self).sum(axis)

    def any(self, axis: int = 0) -> np.ndarray:
        """bool [H, W]: the pixels of any of the masks."""
        if axis != 0:
            return np.asarray(self).any(axis)
        return self.painted(range(len(self))) >= 0

    def merged(self, numbers: Sequence[int]) -> np.ndarray:
        """The runs of several masks together, as those of one."""
        runs = [self.runs[i] for i in numbers]
        together = np.concatenate(runs) if runs else np.zeros((0, 2), np.int64)
        together = together[np.argsort(together[:, 0], kind="stable")]
        if not len(together):
            return together
        reach = np.maximum.accumulate(together[:, 1])
        first = np.concatenate([[True], together[1:, 0] > reach[:-1]])
        last = np.concatenate([first[1:], [True]])
        return np.stack([together[first, 0], reach[last]], 1)

    def boxes(self) -> np.ndarray:
        """int [N, 4]: left, top, right, bottom of each mask, right and bottom not included; all 0 of an empty one."""
        height = self.shape[1]
        found = np.zeros((len(self), 4), np.int64)
        for i, one in enumerate(self.runs):
            if len(one):
                first, last = one[:, 0], one[:, 1] - 1
                columns, rows = first // height, first % height
                long = bool((last // height != columns).any())  # a run that goes on in the next column spans them all
                top, bottom = (0, height) if long else (rows.min(), (last % height).max() + 1)
                found[i] = columns.min(), top, (last // height).max() + 1, bottom
        return found

    def centre(self, i: int) -> np.ndarray:
        """[row, column], the mean of mask i's pixels."""
        height = self.shape[1]
        pixels = np.concatenate([np.arange(start, stop) for start, stop in self.runs[i].tolist()])
        return np.array([(pixels % height).mean(), (pixels // height).mean()])

    def painted(self, order: Sequence[int]) -> np.ndarray:
        """int16 or int32 [H, W]: which mask one sees when they are painted in `order`; -1 is none."""
        _, height, width = self.shape
        flat = np.full(width * height, -1, np.int16 if len(self) < 2**15 else np.int32)
        for i in order:
            for start, stop in self.runs[i].tolist():
                flat[start:stop] = i
        return flat.reshape(width, height).T

    def turned(self, orientation: int) -> "Masks":
        """The masks turned as an EXIF orientation says."""
        hw = self.shape[:0:-1] if upright.swaps_sides(orientation) else self.shape[1:]
        return Masks(hw, [_runs(upright.turned(mask, orientation)) for mask in self])


def coloured(labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] of a label map [H, W] and the colours [K, 3] of its labels; a label -1 is the last colour."""
    picture = np.empty((*labels.shape, 3), np.uint8)
    for top in range(0, len(labels), _ROWS):  # an index makes 8 bytes of every label
        picture[top : top + _ROWS] = colours[labels[top : top + _ROWS]]
    return picture


def _runs(mask: np.ndarray) -> np.ndarray:
    """Runs int64 [R, 2] of a mask bool [H, W]."""
    flat = np.asarray(mask, bool).T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=False))
    return edges.reshape(-1, 2).astype(np.int64)
