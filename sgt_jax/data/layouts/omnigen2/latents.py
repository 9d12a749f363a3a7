"""Where the slots of OmniGen2's diffusion transformer stand: rotary positions on three axes."""

from collections.abc import Sequence

import numpy as np

Grid = tuple[int, int]  # (rows, columns) of latent tokens


def rotary_positions(
    text: int, references: Sequence[Grid], target: Grid
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Positions of the diffusion transformer's slots of one sample, int32 [slots, 3] each.

    Text counts up on all three axes. Every picture has one number on the first axis, which goes on by its longer side, and
    its rows and columns, from 0, on the others.

    Returns:
      Those of `text` slots, of every reference, and of the target.
    """
    words = np.repeat(np.arange(text, dtype=np.int32)[:, None], 3, axis=1)
    shift, pictures = text, []
    for rows, columns in (*references, target):
        grid = np.indices((rows, columns), np.int32).reshape(2, -1).T
        pictures.append(np.concatenate([np.full((rows * columns, 1), shift, np.int32), grid], axis=1))
        shift += max(rows, columns)
    return words, pictures[:-1], pictures[-1]
