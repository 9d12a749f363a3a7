"""The target is what the proxy says, not the photo: every registered proxy against an independent computation."""

import dataclasses
import pkgutil

import matplotlib
import numpy as np
import pytest
from scipy import ndimage
from skimage import feature, filters

import sgt_jax.data.proxies as package
from sgt_jax.data.examples import Example
from sgt_jax.data.pictures import masks
from sgt_jax.data.pictures.resizing import ResizeRule
from sgt_jax.data.proxies import PROXIES, make_pair, register, registry
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.data.tasks import Proxy as ProxyTask
from sgt_jax.data.text import templates
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError

SHAPES = ("circle", "square", "triangle")


def rng(seed=0):
    return np.random.default_rng(seed)


def scene(i):
    """A scene that can serve every proxy."""
    example = Scenes(min_objects=2)[i]
    extra = example.extra | {"class_names": SHAPES}
    return dataclasses.replace(example, images=(example.image, np.roll(example.image, -2, 1)), extra=extra)


def expect_segmentation(example, pair):
    """Rank by area, one colour each, small over large, black elsewhere; written without `masks.render`."""
    picture = np.zeros_like(example.image)
    areas = [int(m.sum()) for m in example.masks]
    for rank, i in enumerate(sorted(range(len(areas)), key=lambda i: -areas[i])):
        picture[example.masks[i]] = masks.distinct_colours(len(areas))[rank]
    return picture


def expect_semantic(example, pair):
    picture = np.zeros_like(example.image)
    for mask, name in zip(example.masks, example.classes, strict=True):  # they do not overlap
        picture[mask] = masks.distinct_colours(3)[SHAPES.index(name)]
    return picture


def expect_outlines(example, pair):
    """Mask pixels with a 4-neighbour outside; the picture's border is no outline."""
    cross = ndimage.generate_binary_structure(2, 1)
    rims = [
        m & (ndimage.minimum_filter(np.pad(m, 1, mode="edge"), footprint=cross)[1:-1, 1:-1] == 0) for m in example.masks
    ]
    return np.repeat(np.any(rims, 0)[..., None], 3, 2) * 255


def expect_referring(example, pair):
    """All masks of the class that the instruction names, and only they."""
    named = [m for m, name in zip(example.masks, example.classes, strict=True) if name in pair.instruction.split()]
    several = "each" in pair.instruction.split()
    assert len(named) > 1 if several else len(named) == 1
    return np.repeat(np.any(named, 0)[..., None], 3, 2) * 255


def expect_detection(example, pair):
    """Frames one pixel wide around the masks over the photo, the largest box drawn first."""
    picture = example.image.copy()
    boxes = []
    for mask in example.masks:
        y, x = np.nonzero(mask)
        boxes.append((y.min(), x.min(), y.max(), x.max()))
    boxes.sort(key=lambda b: -(b[2] - b[0] + 1) * (b[3] - b[1] + 1))
    for (top, left, bottom, right), colour in zip(boxes, masks.distinct_colours(len(boxes)), strict=True):
        picture[[top, bottom], left : right + 1] = colour
        picture[top : bottom + 1, [left, right]] = colour
    return picture


def expect_depth(example, pair):
    near = 1 / example.depth
    low, high = np.quantile(near, (0.01, 0.99))
    # A table of 256 colours, one of which may be the neighbour of ours by rounding: to be sure we compare places in it.
    table = np.round(np.array(matplotlib.colormaps["inferno"].colors) * 255)
    place = np.abs(table - pair.target[:, :, None].astype(float)).sum(-1).argmin(-1)
    np.testing.assert_allclose(place, np.clip((near - low) / (high - low), 0, 1) * 255, atol=0.51)
    return table[place]


def expect_normals(example, pair):
    """Objects of the scenes are cut from paper and stand upright: everything faces the viewer.

    Except tips a pixel wide, which have no neighbour on their own surface to tell them.
    """
    d = np.pad(example.depth, 1, constant_values=-1)
    centre = d[1:-1, 1:-1]
    lonely = (centre != d[:-2, 1:-1]) & (centre != d[2:, 1:-1]) | (centre != d[1:-1, :-2]) & (centre != d[1:-1, 2:])
    assert lonely.mean() < 0.02
    return np.where(lonely[..., None], pair.target, (127.5, 127.5, 255))


def expect_edges(example, pair):
    """skimage's Sobel on the same smoothed channels, the strongest channel."""
    smooth = filters.gaussian(example.image.astype(np.float64), sigma=0.6, channel_axis=2, mode="reflect")
    per_channel = [np.hypot(filters.sobel_h(c), filters.sobel_v(c)) for c in np.moveaxis(smooth, 2, 0)]
    strength = np.max(per_channel, axis=0)
    return np.repeat(np.clip(1.5 * strength, 0, 255)[..., None], 3, 2)


def expect_canny(example, pair):
    grey = example.image @ (0.299, 0.587, 0.114)
    return np.repeat(feature.canny(grey, 0.6, 0.4 * 255, 0.8 * 255)[..., None], 3, 2) * 255


def the_photo(example, pair):
    return example.image


EXPECTED = {
    "segmentation": expect_segmentation,
    "semantic": expect_semantic,
    "instance": expect_segmentation,  # all objects of a scene are things, and do not overlap
    "panoptic": expect_segmentation,
    "outlines": expect_outlines,
    "referring": expect_referring,
    "detection": expect_detection,
    "depth": expect_depth,
    "normals": expect_normals,
    "stereo_view": lambda example, pair: np.roll(example.image, -2, 1),
    "edges": expect_edges,
    "canny": expect_canny,
    "reconstruction": the_photo,
}
# Shown is a spoilt photo, asked for is the clean one.
SPOILT = (
    "inpainting mae jigsaw denoising deblurring deraining defogging low_light super_resolution colourisation"
).split()
LEVELS = {
    "high": "segmentation semantic instance panoptic outlines referring detection",
    "mid": "depth normals inpainting mae stereo_view jigsaw",
    "low": "edges canny reconstruction denoising deblurring deraining defogging low_light super_resolution colourisation",
}


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_the_target_is_what_the_proxy_says(name):
    """The reference regressed the input photo for six weeks; a new proxy must bring its own expectation here."""
    assert (name in EXPECTED) != (name in SPOILT), (
        f"add an independent computation of the target of '{name}' to EXPECTED"
    )
    for i in range(20):
        example = scene(i)
        before = example.image.copy()
        pair = make_pair(name, example, rng(i))
        assert pair.target.dtype == pair.condition.dtype == np.uint8
        np.testing.assert_array_equal(example.image, before)
        if name in SPOILT:
            # Cut by at most seven pixels a side where a grid or a factor must divide it; see the proxies' own tests.
            height, width = pair.target.shape[:2]
            top, left = (32 - height) // 2, (32 - width) // 2
            np.testing.assert_array_equal(pair.target, before[top : top + height, left : left + width])
            assert min(height, width) >= 25 and pair.condition.shape == pair.target.shape
            assert np.abs(pair.condition.astype(float) - pair.target).mean() > 0.5
        else:
            np.testing.assert_array_equal(pair.condition, before)
            expected = EXPECTED[name](example, pair)
            inner = (slice(1, -1), slice(1, -1))  # border rules of filters differ
            np.testing.assert_allclose(pair.target[inner].astype(float), expected[inner].astype(float), atol=1)
            difference = np.abs(pair.target.astype(float) - before).mean()
            least = {"detection": 3, "stereo_view": 3}.get(name, 20)
            assert difference == 0 if name == "reconstruction" else difference > least


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_pairs_depend_on_the_generator_alone_and_the_wording_is_ours(name):
    example = scene(3)
    one, same = make_pair(name, example, rng(5)), make_pair(name, example, rng(5))
    assert one.instruction == same.instruction
    np.testing.assert_array_equal(one.condition, same.condition)
    np.testing.assert_array_equal(one.target, same.target)
    objects = [f"{which} {shape}" for which in ("the", "each") for shape in SHAPES]
    assert one.instruction in {w.format(object=o) for w in templates.wordings(name) for o in objects}
    plain = make_pair(name, example, rng(), style="plain").instruction
    assert plain in {templates.PLAIN[name].format(object=o) for o in objects}


def test_every_module_of_the_package_is_registered_with_level_and_wordings():
    modules = {f"{package.__name__}.{m.name}" for m in pkgutil.iter_modules(package.__path__)}
    assert {p.make.__module__ for p in PROXIES.values()} == modules - {registry.__name__}
    assert {name: p.level for name, p in PROXIES.items()} == {n: k for k, v in LEVELS.items() for n in v.split()}
    for name, proxy in PROXIES.items():
        assert proxy.name == name and proxy.needs and proxy.make.__doc__.partition("\n")[0].endswith(".")
        assert len(templates.wordings(name)) >= 60
    flat = {name for name, proxy in PROXIES.items() if proxy.flat}
    assert flat == {"segmentation", "semantic", "instance", "panoptic", "referring"}


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_examples_that_cannot_serve_are_named_with_what_they_lack(name):
    bare = Example("photos/7.jpg", np.full((24, 24, 3), 99, np.uint8))
    if PROXIES[name].needs == "a picture":
        make_pair(name, bare, rng())
    else:
        words = {"semantic": "masks with classes"}.get(name, PROXIES[name].needs)
        with pytest.raises(DataError) as error:
            make_pair(name, bare, rng())
        assert str(error.value).startswith(f"photos/7.jpg: proxy '{name}' needs {words}; use another source")
    with pytest.raises(DataError, match=f"texts/3: proxy '{name}' needs a picture"):
        make_pair(name, Example("texts/3"), rng())


def test_unknown_proxies_and_options_are_named():
    bare = Example("photos/7.jpg", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="no proxy 'juggling'; there are canny, colourisation, .*, super_resolution"):
        make_pair("juggling", bare, rng())
    with pytest.raises(DataError, match=r"proxy 'edges' has no option \['pallette'\]; it has style, gain, blur"):
        make_pair("edges", bare, rng(), pallette="tab20")


def test_flat_targets_stay_flat_on_the_canvas_and_others_are_smoothed():
    """A painted photo (referring over the photo) must not be resized like a map of flat colours."""
    example = scene(0)
    size = ResizeRule(8, 32, 32)

    def colours(name, **options):
        task = ProxyTask(name, lambda text: [1], size, ((48, 48),), options)
        return len(np.unique(task(example, rng()).plan[2].data.reshape(-1, 3), axis=0))

    assert colours("segmentation") == 3 and colours("referring") == 2 and colours("semantic") <= 3
    assert colours("segmentation", resize="blended") > 10
    assert colours("referring", ground="photo") > 200 and colours("depth") > 10


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_every_proxy_becomes_a_sample_of_the_nano_model(name):
    """Photo through the encoder, words that its tokenizer knows, a picture of the canvas's size to paint."""
    tokenizer = Tokenizer.nano()
    task = ProxyTask(name, tokenizer.encode, ResizeRule(8, 32, 32), ((32, 32),), {"style": "plain"})
    seen, text, painted = task(scene(1), rng()).plan
    assert seen.type == "vit_image" and seen.data.shape == (32, 32, 3) and not seen.loss
    assert text.droppable and 0 not in text.data and 2 <= len(text.data) <= 7
    assert painted.type == "vae_image" and painted.loss and painted.data.shape == (32, 32, 3)
    if name != "reconstruction":
        assert (painted.data != seen.data).any()


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="taken"):
        register("edges", level="low")
    with pytest.raises(ValueError, match="level"):
        register("new", level="middling")
