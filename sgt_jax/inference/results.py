"""What painting gives back: a picture, or a segmentation decoded to instances."""

import dataclasses
from typing import Any

import numpy as np

from sgt_jax.data.pictures import masks, rle


@dataclasses.dataclass(frozen=True)
class Painting:
    """A painted picture uint8 [H, W, 3], and what the model thought before, if it was asked to."""

    picture: np.ndarray
    thought: str = ""


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer: a text, or, where the model asked for one, a picture uint8 [H, W, 3]."""

    text: str
    picture: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """A painted segmentation and what it says.

    Attributes:
      painting: uint8 [H', W', 3], as painted.
      masks: bool [N, H, W] at the size of the photograph, largest first.
    """

    painting: np.ndarray
    masks: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """int32 [H, W]: 0 is no instance, n is mask n-1."""
        return masks.visible(self.masks)

    def to_json(self) -> dict[str, Any]:
        """Areas, boxes [x, y, width, height] and COCO run lengths of all instances."""
        found = []
        for number, mask in enumerate(self.masks, 1):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
            found.append(
                {
                    "label": number,
                    "area": int(mask.sum()),
                    "bbox": [int(side) for side in box],
                    "segmentation": rle.encode(mask),
                }
            )
        return {"size": [int(side) for side in self.masks.shape[1:]], "instances": found}
