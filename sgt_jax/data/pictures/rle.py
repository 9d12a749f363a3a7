"""COCO run lengths: masks as the short strings that SA-1B and COCO files hold, without pycocotools.

Runs alternate background, foreground, starting with background, over the mask read column by column.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.errors import DataError


def counts(mask: np.ndarray) -> list[int]:
    """Run lengths of a mask [H, W]."""
    flat = np.asarray(mask, bool).T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat, prepend=False))  # where the value changes; the first run is background
    return np.diff(edges, prepend=0, append=len(flat)).tolist()


def compress(runs: Sequence[int]) -> str:
    """Run lengths as COCO's string: 5 bits a character, from the fourth number on as differences."""
    out = []
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            group, value = value & 31, value >> 5
            # The sign is bit 4 of the last group: stop when what is left says nothing but the sign.
            more = value != (-1 if group & 16 else 0)
            out.append(chr(48 + group + 32 * more))
            if not more:
                break
    return "".join(out)


def decompress(text: str) -> list[int]:
    """COCO's string -> run lengths.

    Raises:
      DataError: the string breaks off, or holds other characters.
    """
    return _numbers(text).tolist()


def _numbers(text: str) -> np.ndarray:
    groups = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - 48
    if not len(groups):
        return groups
    if groups.min() < 0 or groups.max() >= 64:
        wrong = next(character for character in text if not 48 <= ord(character) < 112)
        raise DataError(f"run lengths hold the character {wrong!r}; is this COCO's compressed form?")
    ends = np.flatnonzero(groups < 32)
    if not len(ends) or ends[-1] != len(groups) - 1:
        raise DataError("run lengths break off inside a number; is the file complete?")
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = ends - starts + 1
    if digits.max() > 12:
        raise DataError("run lengths hold a number of more than 60 bits; is the file complete?")
    place = np.arange(len(groups)) - np.repeat(starts, digits)
    values = np.add.reduceat((groups & 31) << (5 * place), starts)
    values -= np.where(groups[ends] & 16, np.int64(1) << (5 * digits), 0)
    values[1::2] = np.cumsum(values[1::2])  # from the fourth number on as differences to the one two before
    values[2::2] = np.cumsum(values[2::2])
    return values


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Mask [H, W] -> {"size": [H, W], "counts": string}."""
    return {"size": [int(side) for side in np.shape(mask)], "counts": compress(counts(mask))}


MOST_PIXELS = 2**31  # of a mask


def foreground(segmentation: Mapping[str, Any]) -> np.ndarray:
    """{"size": [H, W], "counts": string or list} -> the runs of the mask itself, int64 [R, 2]: start, stop.

    Places count column by column; no run is empty, and none begins where the one before ends.

    Raises:
      DataError: the runs do not fill the size.
    """
    height, width = (int(side) for side in segmentation["size"])
    runs = segmentation["counts"]
    if isinstance(runs, bytes):
        runs = runs.decode("ascii", "replace")
    runs = _numbers(runs) if isinstance(runs, str) else np.asarray(list(runs), np.int64)
    if min(height, width) < 0 or height * width > MOST_PIXELS:
        raise DataError(f"a mask of {height}x{width} cannot be; correct the size")
    if runs.min(initial=0) < 0 or runs.max(initial=0) > height * width or runs.sum() != height * width:
        raise DataError(f"runs of {runs.sum()} pixels do not fill a mask of {height}x{width}")
    ends = np.cumsum(runs)
    found = np.stack([ends[:-1:2], ends[1::2]], 1) if len(ends) > 1 else np.zeros((0, 2), np.int64)
    found = found[found[:, 1] > found[:, 0]]
    joined = np.flatnonzero(found[1:, 0] == found[:-1, 1])
    if len(joined):  # an empty run of background between them
        keep_start, keep_stop = np.ones(len(found), bool), np.ones(len(found), bool)
        keep_start[joined + 1], keep_stop[joined] = False, False
        found = np.stack([found[keep_start, 0], found[keep_stop, 1]], 1)
    return found


def decode(segmentation: Mapping[str, Any]) -> np.ndarray:
    """{"size": [H, W], "counts": string or list} -> bool [H, W].

    Raises:
      DataError: the runs do not fill the size.
    """
    runs = foreground(segmentation)
    height, width = segmentation["size"]
    flat = np.zeros(width * height, bool)
    for start, stop in runs.tolist():
        flat[start:stop] = True
    return flat.reshape(width, height).T
