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
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise DataError(f"run lengths hold the character {character!r}; is this COCO's compressed form?")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise DataError("run lengths break off inside a number; is the file complete?")
    return runs


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Mask [H, W] -> {"size": [H, W], "counts": string}."""
    return {"size": [int(side) for side in np.shape(mask)], "counts": compress(counts(mask))}


def decode(segmentation: Mapping[str, Any]) -> np.ndarray:
    """{"size": [H, W], "counts": string or list} -> bool [H, W].

    Raises:
      DataError: the runs do not fill the size.
    """
    height, width = segmentation["size"]
    runs = segmentation["counts"]
    runs = decompress(runs) if isinstance(runs, str) else list(runs)
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise DataError(f"runs of {sum(runs)} pixels do not fill a mask of {height}x{width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T
