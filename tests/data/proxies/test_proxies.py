"""The target is what the proxy says, not the photo: every registered proxy against an independent computation."""

import pkgutil

import numpy as np
import pytest
from skimage import filters

import sgt_jax.data.proxies as package
from sgt_jax.data import masks, templates
from sgt_jax.data.examples import DataError, Example
from sgt_jax.data.proxies import PROXIES, make_pair, register, registry
from sgt_jax.data.sources.scenes import Scenes

RNG = np.random.default_rng(0)


def expect_segmentation(example):
    """Rank by area, one colour each, small over large, black elsewhere; written without `masks.render`."""
    picture = np.zeros_like(example.image)
    areas = [int(m.sum()) for m in example.masks]
    for rank, i in enumerate(sorted(range(len(areas)), key=lambda i: -areas[i])):
        picture[example.masks[i]] = masks.distinct_colours(len(areas))[rank]
    return picture


def expect_edges(example):
    """skimage's Sobel on the same smoothed channels, the strongest channel."""
    smooth = filters.gaussian(example.image.astype(np.float64), sigma=0.6, channel_axis=2, mode="reflect")
    per_channel = [np.hypot(filters.sobel_h(c), filters.sobel_v(c)) for c in np.moveaxis(smooth, 2, 0)]
    strength = np.max(per_channel, axis=0)
    return np.repeat(np.clip(1.5 * strength, 0, 255)[..., None], 3, 2)


def expect_reconstruction(example):
    return example.image


EXPECTED = {"segmentation": expect_segmentation, "edges": expect_edges, "reconstruction": expect_reconstruction}
LEVELS = {"segmentation": "high", "edges": "low", "reconstruction": "low"}


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_the_target_is_what_the_proxy_says(name):
    """The reference regressed the input photo for six weeks; a new proxy must bring its own expectation here."""
    assert name in EXPECTED, f"add an independent computation of the target of '{name}' to EXPECTED"
    for i in range(20):
        example = Scenes(min_objects=2)[i]
        pair = make_pair(name, example, RNG)
        np.testing.assert_array_equal(pair.condition, example.image)
        assert pair.target.dtype == np.uint8 and pair.target.shape == example.image.shape
        expected = EXPECTED[name](example)
        inner = (slice(1, -1), slice(1, -1))  # border rules of filters differ
        np.testing.assert_allclose(pair.target[inner].astype(float), expected[inner].astype(float), atol=1)
        difference = np.abs(pair.target.astype(float) - example.image).mean()
        assert difference == 0 if name == "reconstruction" else difference > 20
        assert pair.instruction in templates.wordings(name)
        assert make_pair(name, example, RNG, style="plain").instruction == templates.PLAIN[name]


def test_every_module_of_the_package_is_registered_with_level_and_wordings():
    modules = {f"{package.__name__}.{m.name}" for m in pkgutil.iter_modules(package.__path__)}
    assert {p.make.__module__ for p in PROXIES.values()} == modules - {registry.__name__}
    for name, proxy in PROXIES.items():
        assert proxy.name == name and proxy.level == LEVELS[name]
        assert len(templates.wordings(name)) >= 60
    assert PROXIES["segmentation"].flat and not PROXIES["edges"].flat


def test_segmentation_takes_the_shipped_picture_where_there_are_no_masks():
    shipped = np.zeros((10, 20, 3), np.uint8)
    shipped[:, 10:] = (200, 10, 60)
    photo = np.full((20, 40, 3), 99, np.uint8)
    example = Example("sam/1", photo, mask_picture=shipped)
    target = make_pair("segmentation", example, RNG).target
    assert target.shape == photo.shape
    assert {tuple(c) for c in target.reshape(-1, 3).tolist()} == {(0, 0, 0), (200, 10, 60)}
    blended = make_pair("segmentation", example, RNG, resize="blended").target
    assert len(np.unique(blended.reshape(-1, 3), axis=0)) > 2
    # Instances, if there are any, win over the shipped picture.
    example.masks = np.ones((1, 20, 40), bool)
    assert (make_pair("segmentation", example, RNG).target == 255).all()


def test_segmentation_options_reach_the_renderer():
    example = Scenes(min_objects=2)[0]
    for options in (dict(palette="tab20"), dict(background=(9, 9, 9)), dict(max_masks=1), dict(order="position")):
        expected = masks.render(example.masks, **options)
        np.testing.assert_array_equal(make_pair("segmentation", example, RNG, **options).target, expected)
    names = ("circle", "square", "triangle")
    by_class = make_pair("segmentation", example, RNG, palette="class", class_names=names).target
    for mask, shape in zip(example.masks, example.classes, strict=True):
        assert (by_class[mask] == masks.distinct_colours(3)[names.index(shape)]).all()


def test_missing_knowledge_unknown_proxies_and_options_are_named():
    bare = Example("photos/7.jpg", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"photos/7.jpg: proxy 'segmentation' needs instance masks or a mask picture"):
        make_pair("segmentation", bare, RNG)
    with pytest.raises(DataError, match="texts/3: proxy 'edges' needs a picture"):
        make_pair("edges", Example("texts/3"), RNG)
    with pytest.raises(DataError, match="no proxy 'juggling'; there are edges, reconstruction, segmentation"):
        make_pair("juggling", bare, RNG)
    with pytest.raises(DataError, match=r"proxy 'edges' has no option \['pallette'\]; it has style, gain, blur"):
        make_pair("edges", bare, RNG, pallette="tab20")


def test_edges_of_a_step_are_bright_lines_on_black():
    step = np.zeros((32, 32, 3), np.uint8)
    step[:, 16:, 1] = 255  # in one channel only
    edges = make_pair("edges", Example("step", step), RNG, gain=1.0).target
    assert edges[:, 15:17].min() > 100 and not edges[:, :12].any() and not edges[:, 20:].any()
    assert (edges == edges[:, :, :1]).all()


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="taken"):
        register("edges", level="low")
    with pytest.raises(ValueError, match="level"):
        register("new", level="middling")
