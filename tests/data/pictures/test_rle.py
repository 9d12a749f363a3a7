"""COCO run lengths against vectors made with pycocotools, and there and back."""

import numpy as np
import pytest

from sgt_jax.data.pictures import rle
from sgt_jax.errors import DataError


def rows(*lines):
    return np.array([[c == "1" for c in line] for line in lines])


RING = rows("0" * 8, "0" * 8, "01111000", "01001000", "01001000", "01111000", "0" * 8, "0" * 8)
VECTORS = (
    (rows("0011", "0110", "1100"), [2, 1, 1, 4, 1, 1, 2], "21130M1"),
    (rows("11", "10"), [0, 3, 1], "031"),
    (RING, [10, 4, 4, 1, 2, 1, 4, 1, 2, 1, 4, 4, 26], ":44MN020N023f0"),
)


@pytest.mark.parametrize("mask,runs,text", VECTORS)
def test_recorded_vectors(mask, runs, text):
    assert rle.counts(mask) == runs
    assert rle.encode(mask) == {"size": list(mask.shape), "counts": text}
    for form in (runs, text):
        np.testing.assert_array_equal(rle.decode({"size": mask.shape, "counts": form}), mask)


@pytest.mark.parametrize("density", (0.0, 0.02, 0.5, 0.98, 1.0))
def test_there_and_back(density):
    mask = np.random.default_rng(3).random((97, 131)) < density
    np.testing.assert_array_equal(rle.decode(rle.encode(mask)), mask)


@pytest.mark.parametrize("counts", ("21130M", "2113", "031o", [1, 2], [13, -1], "\x1f"))
def test_damaged_strings_are_errors(counts):
    with pytest.raises(DataError):
        rle.decode({"size": (3, 4), "counts": counts})
