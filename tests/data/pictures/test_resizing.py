"""Pictures are loaded, sized and normalised as in the reference; bad files are named."""

import io
import json

import numpy as np
import pytest
from PIL import Image, features

from sgt_jax.data.pictures import reading, resizing
from sgt_jax.errors import DataError
from tests.support import hostile_files as hostile
from tests.support import paths

GOLDEN = paths.GOLDEN / "bagel"


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "images.npz")


@pytest.mark.parametrize(("rule", "field"), [("sgt", "out_wh"), ("bagel", "out_wh_upstream")])
def test_resize_rule_matches_every_recorded_case(rule, field):
    cases = json.loads((GOLDEN / "resize_cases.json").read_text())
    assert len(cases) > 50
    wrong = []
    for c in cases:
        limits = c["stride"], c["min_size"], c["max_size"], c["max_pixels"], c["img_num"]
        got = resizing.resize_rule(*c["in_wh"], *limits, rule=rule)
        if list(got) != c[field]:
            wrong.append((c, got))
    assert not wrong, f"{len(wrong)} of {len(cases)} differ, first {wrong[0]}"


def test_the_two_rules_differ_where_the_budget_binds():
    assert resizing.resize_rule(1500, 2250, 16, 512, 1024, 1806336, 4) == (544, 816)
    assert resizing.resize_rule(1500, 2250, 16, 512, 1024, 1806336, 4, rule="bagel") == (448, 656)


def test_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="choose 'sgt', 'bagel'"):
        resizing.resize_rule(10, 10, 2, 4, 8, rule="other")


def test_transform_matches_the_recording(golden):
    config = json.loads((GOLDEN / "image_transform_config.json").read_text())
    spec = resizing.ResizeRule(config["image_stride"], config["min_image_size"], config["max_image_size"])
    got = resizing.transform(golden["rgb_in"], spec)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.transpose(2, 0, 1), golden["rgb_transformed"], atol=1e-6, rtol=0)


def test_transparency_is_composited_on_white(golden, tmp_path):
    picture = Image.fromarray(golden["rgba_in"])
    np.testing.assert_array_equal(reading.to_rgb(picture), golden["rgba_to_rgb"])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(reading.load_rgb(tmp_path / "a.png"), golden["rgba_to_rgb"])


def test_palette_transparency_and_grey_modes():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    palette.info["transparency"] = 0
    assert reading.to_rgb(palette).tolist() == [[[255, 255, 255], [40, 50, 60]]]
    assert reading.to_rgb(Image.new("L", (1, 1), 7)).tolist() == [[[7, 7, 7]]]
    deep = Image.fromarray(np.array([[256 * 100]], np.uint16))
    assert reading.to_rgb(deep).tolist() == [[[100, 100, 100]]]


def test_resize_nearest_makes_no_new_colours_and_bicubic_does():
    image = np.zeros((9, 9, 3), np.uint8)
    image[:, 4:] = (250, 10, 90)
    colours = lambda x: {tuple(c) for c in x.reshape(-1, 3).tolist()}  # noqa: E731
    assert colours(resizing.resize(image, (14, 5), nearest=True)) == colours(image)
    assert len(colours(resizing.resize(image, (14, 5)))) > 2
    assert resizing.resize(image, (14, 5)).shape == (5, 14, 3)
    assert resizing.resize(image, (9, 9)) is image


def test_bad_files_are_named(tmp_path):
    with pytest.raises(DataError, match="gone.png: no such picture"):
        reading.load_rgb(tmp_path / "gone.png")
    (tmp_path / "text.jpg").write_text("this is no picture")
    with pytest.raises(DataError, match="text.jpg: not a readable picture"):
        reading.load_rgb(tmp_path / "text.jpg")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    with pytest.raises(DataError, match="cut.png: not a readable picture"):
        reading.load_rgb(tmp_path / "cut.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damaged metadata
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_whatever_bytes_are_damaged_it_is_a_data_error_or_a_picture(form):
    """Decoders raise a dozen kinds of errors; one that is not expected would end a run that was told to skip."""
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow cannot read AVIF")
    rng = np.random.default_rng(0)
    whole = hostile.encoded(Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8)), form)
    failed = 0
    for _ in range(200):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 400), 5):
            data[place] = rng.integers(0, 256)
        for read in (lambda d: reading.load_rgb(io.BytesIO(d), True, "x"), lambda d: reading.load_values(d, "x"),
                     lambda d: reading.picture_size(d, "x")):  # fmt: skip
            try:
                read(bytes(data))
            except DataError as error:
                assert str(error).startswith("x: ")
                failed += 1
    assert failed > 50
