"""Picture grids."""

import resource

import numpy as np
import pytest

from sgt_jax.reporting import grids


def flat(height: int, width: int, colour) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3))


def test_small_pictures_grow_by_whole_pixels_and_large_ones_shrink():
    sheet = grids.grid([[flat(32, 16, [255, 0, 0]), flat(600, 300, [0, 0, 255])]], cell=128)
    assert (sheet == [255, 0, 0]).all(-1).sum() == 128 * 64
    assert (sheet == [0, 0, 255]).all(-1).sum() == 128 * 64


def test_titles_and_captions_take_room_and_ink():
    picture = [[flat(8, 8, [0, 255, 0])]]
    plain = grids.grid(picture)
    titled = grids.grid(picture, columns=["condition"])
    captioned = grids.grid(picture, captions=["a prompt"])
    assert titled.shape[0] > plain.shape[0] and titled.shape[1] == plain.shape[1]
    assert captioned.shape[1] > plain.shape[1]
    assert (titled[:15] < 100).all(-1).any()  # dark text above the picture


def test_rows_may_be_ragged_and_places_empty():
    sheet = grids.grid([[None, flat(8, 8, [1, 2, 3])], [flat(8, 8, [1, 2, 3])]])
    assert (sheet == [1, 2, 3]).all(-1).sum() == 2 * 128 * 128


@pytest.mark.parametrize("rows", [[], [[]]])
def test_no_picture_is_an_error(rows):
    with pytest.raises(ValueError, match="at least one"):
        grids.grid(rows)


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)])
def test_only_uint8_rgb(picture):
    with pytest.raises(ValueError, match="uint8"):
        grids.grid([[picture]])


def test_a_picture_that_the_disk_cuts_short_is_an_error_and_no_file(tmp_path):
    """Pillow takes a short write for a whole one where it writes into a file by itself."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(OSError):
            grids.write_png(tmp_path / "a.png", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
