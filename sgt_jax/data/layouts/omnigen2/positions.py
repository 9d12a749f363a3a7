"""Rotary positions of Qwen2.5-VL's text model: (time, height, width) per token. NumPy only."""

from collections.abc import Iterable

import numpy as np


def text_positions(count: int, start: int) -> tuple[np.ndarray, int]:
    """int32 [count, 3] of text tokens, equal triples that count up from `start`; the next start."""
    line = np.arange(start, start + count, dtype=np.int32)
    return np.repeat(line[:, None], 3, axis=1), start + count


def image_positions(rows: int, columns: int, start: int) -> tuple[np.ndarray, int]:
    """int32 [rows*columns, 3] of the tokens of a picture, row by row; the next start is max(rows, columns) further."""
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    offset = np.stack([np.zeros_like(row), row, column], axis=-1).reshape(-1, 3)
    return (start + offset).astype(np.int32), start + max(rows, columns)


def positions(ids: np.ndarray, image_token: int, grids: Iterable[tuple[int, int]]) -> np.ndarray:
    """int32 [S, 3] of the tokens of one sample.

    Args:
      ids: int [S], without padding.
      image_token: the id that stands once for every cell of a picture.
      grids: (rows, columns) in cells of the pictures, in order.

    Raises:
      ValueError: the image tokens are not those of these pictures.
    """
    found, start, at = [], 0, 0
    is_image = np.asarray(ids) == image_token
    for rows, columns in grids:
        before = int(np.argmax(is_image[at:])) if is_image[at:].any() else 0
        count = rows * columns
        if not count or not is_image[at + before : at + before + count].all() or len(ids) < at + before + count:
            raise ValueError(f"no {count} image tokens in a row after token {at + before} for a {rows}x{columns} picture")
        text, start = text_positions(before, start)
        cells, start = image_positions(rows, columns, start)
        found += [text, cells]
        at += before + count
    if is_image[at:].any():
        raise ValueError("more image tokens than the pictures have cells")
    found.append(text_positions(len(ids) - at, start)[0])
    return np.concatenate(found)
