"""Pictures that BAGEL's loaders use are used, and numbers that are no grey levels are never black pictures."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from sgt_jax.data.pictures import reading
from sgt_jax.errors import DataError
from tests.support.hostile_files import encoded, truncated_jpeg

FLAT = Image.new("RGB", (40, 30), (250, 20, 20))


def load(data, **options):
    return reading.load_rgb(io.BytesIO(data), name="x", **options)


def test_megabytes_of_metadata():
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", " " * 2_000_000, zip=True)
    for data in (encoded(FLAT, pnginfo=info), encoded(FLAT, icc_profile=b"\0" * 2_000_000)):
        assert (load(data) == (250, 20, 20)).all()


def test_pictures_whose_last_bytes_are_missing():
    whole = load(truncated_jpeg(keep=1.0))
    cut = truncated_jpeg(keep=0.95)
    found = load(cut, truncated=True)
    assert found.shape == whole.shape and (found[:8] == whole[:8]).all()
    with pytest.raises(DataError, match="truncated"):
        load(cut)
    with pytest.raises(DataError, match="truncated"):  # half a picture is none
        load(truncated_jpeg(keep=0.5), truncated=True)
    with pytest.raises(DataError, match="truncated"):  # the switch is off again
        load(cut)


def test_a_panorama_is_read_in_strips():
    data = encoded(Image.new("L", (30_000, 6_500), 128), "JPEG", quality=10)
    found = load(data)
    assert found.shape == (6_500, 30_000, 3) and found[::500, ::500].min() == found[::500, ::500].max() == 128


@pytest.mark.parametrize(
    ("values", "grey"),
    [
        (np.full((4, 4), 0.5, np.float32), 128),
        (np.full((4, 4), 200.0, np.float32), 200),
        (np.full((4, 4), 32_896, np.int32), 128),
        (np.full((4, 4), 7, np.int32), 7),
    ],
)
def test_numbers_are_scaled(values, grey):
    assert (load(encoded(Image.fromarray(values), "TIFF")) == grey).all()


@pytest.mark.parametrize("value", [np.nan, -1.0, 1e9])
def test_numbers_that_are_no_grey_levels_are_refused(value):
    with pytest.raises(DataError, match=r"x: .*8-bit picture"):
        load(encoded(Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF"))
