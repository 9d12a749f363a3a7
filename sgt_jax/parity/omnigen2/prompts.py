"""Recorded prompts, padded as the reference pads them, as lanes of ours: text and patches, packed or one sample a row."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sgt_jax.batch import CAUSAL
from sgt_jax.data.layouts.omnigen2 import pictures
from sgt_jax.data.layouts.omnigen2.positions import positions
from sgt_jax.models.omnigen2.config import OmniGen2Config

Lane = dict[str, np.ndarray]


class Picture(NamedTuple):
    """Patches [P, W], normalised, cell by cell, and the size of the grid of patches."""

    patches: np.ndarray
    rows: int
    columns: int


class Sample(NamedTuple):
    """One sample of a padded batch.

    Attributes:
      ids: its tokens, without padding but for that from which the reference predicts a label.
      silent: bool, where ids are padding.
      columns: where ids stood in the padded row.
      pictures: what its image tokens stand for.
    """

    ids: np.ndarray
    silent: np.ndarray
    columns: np.ndarray
    pictures: tuple[Picture, ...]


def recorded_pictures(patches: np.ndarray, grids: np.ndarray) -> list[Picture]:
    """Pictures from patches one after the other and rows (frames, rows, columns)."""
    ends = np.cumsum(np.prod(grids, axis=1))
    parts = np.split(patches, ends[:-1])
    return [Picture(part, int(rows), int(columns)) for part, (_, rows, columns) in zip(parts, grids, strict=True)]


def samples(
    ids: np.ndarray, mask: np.ndarray, found: Sequence[Picture], config: OmniGen2Config, labels: np.ndarray | None = None
) -> list[Sample]:
    """A padded batch [N, S] as samples; pictures are taken in order, one for every start of a picture.

    With `labels` [N, S] (-100: none) padding is kept that the reference predicts a label from.
    """
    rest = iter(found)
    predicting = np.zeros(ids.shape, bool)
    if labels is not None:
        predicting[:, :-1] = labels[:, 1:] != -100
    out = []
    for row, real, needed in zip(ids, mask > 0, predicting, strict=True):
        columns = np.flatnonzero(real | needed)
        count = int(np.sum(row[real] == config.tokens.vision_start_token_id))
        out.append(Sample(row[columns], ~real[columns], columns, tuple(next(rest) for _ in range(count))))
    return out


def lanes(batch: Sequence[Sample], config: OmniGen2Config, packed: bool) -> tuple[Lane, Lane]:
    """(lane "und", lane "vit") of samples: all in one row, or one a row."""
    rows = [list(enumerate(batch, 1))] if packed else [[(1, sample)] for sample in batch]
    made = [_row(row, config) for row in rows]
    return tuple(_stack([lane[k] for lane in made]) for k in (0, 1))


def _row(row: Sequence[tuple[int, Sample]], config: OmniGen2Config) -> tuple[Lane, Lane]:
    text, seen, slot, number = [], [], 0, 0
    merge, image_token = config.vision.spatial_merge_size, config.tokens.image_token_id
    for index, sample in row:
        pointer = np.full(len(sample.ids), -1)
        slots = []
        for picture in sample.pictures:
            lane, place = patch_fields(picture, config)
            size = len(picture.patches)
            seen.append(lane | {"sample": np.full(size, index), "image": np.full(size, number)})
            lane["window"] += 0 if len(seen) == 1 else seen[-2]["window"].max() + 1
            seen[-1]["window"] = lane["window"]
            slots.append(slot + place)
            slot, number = slot + size // merge**2, number + 1
        grids = [(picture.rows // merge, picture.columns // merge) for picture in sample.pictures]
        if slots:
            pointer[sample.ids == image_token] = np.concatenate(slots)
        count = len(sample.ids)
        place = np.ones((count, 3), np.int32)  # what the reference gives padding
        place[~sample.silent] = positions(sample.ids[~sample.silent], image_token, grids)
        text.append({
            "token": sample.ids, "image": pointer, "position": place, "silent": sample.silent,
            "sample": np.full(count, index), "split": np.zeros(count), "order": np.arange(count),
            "mode": np.full(count, CAUSAL),
        })  # fmt: skip
    return _joined(text), _joined(seen)


def patch_fields(picture: Picture, config: OmniGen2Config) -> tuple[Lane, np.ndarray]:
    """A picture's patches, places and windows in the order of windows; where every cell of the raster is in it."""
    vision = config.vision
    merge = vision.spatial_merge_size
    order, window = pictures.windows(
        picture.rows // merge, picture.columns // merge, vision.window_size // vision.stride
    )
    of_patches = pictures.in_cells(order, merge)
    row, column = pictures.places(picture.rows, picture.columns, merge)[of_patches].T
    lane = {
        "patches": picture.patches[of_patches], "row": row, "column": column,
        "window": np.repeat(window, merge**2),
    }  # fmt: skip
    return lane, np.argsort(order)


def _joined(parts: Sequence[Lane]) -> Lane:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _stack(rows: Sequence[Lane]) -> Lane:
    """Rows of different lengths as one lane; padding has sample 0."""
    rows = list(rows)
    full = next((row for row in rows if row), None)
    if full is None:
        return {}
    length = max(len(row["sample"]) for row in rows if row)
    out = {}
    for name, like in full.items():
        kind = np.float32 if name == "patches" else like.dtype if like.dtype == bool else np.int32
        out[name] = np.zeros((len(rows), length, *like.shape[1:]), kind)
        for i, row in enumerate(rows):
            if row:
                out[name][i, : len(row[name])] = row[name]
    return out


def padded_rows(packed: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Values [S, ...] of packed samples where a padded batch has them: [N, T, ...], zeros elsewhere."""
    out = np.zeros((*mask.shape, *packed.shape[1:]), packed.dtype)
    out[mask > 0] = packed
    return out


def starts(numbers: np.ndarray) -> Iterator[int]:
    """Where runs of equal numbers begin, and the end."""
    yield 0
    yield from (np.flatnonzero(np.diff(numbers)) + 1).tolist()
    yield len(numbers)
