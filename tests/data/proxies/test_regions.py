"""Proxies that paint regions: masks, classes, things and stuff, expressions, boxes, outlines."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures import masks
from sgt_jax.data.proxies import make_pair
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.data.stored import record as stored_record
from sgt_jax.errors import DataError

RNG = np.random.default_rng(0)
PHOTO = np.full((20, 30, 3), 90, np.uint8)


def street():
    """Two cars (the second over the first), sky in two pieces, road; a strip in the middle is void."""
    m = np.zeros((5, 20, 30), bool)
    m[0, 2:10, 4:12] = m[1, 6:12, 10:20] = True
    m[2, :4, :15] = m[3, :4, 15:] = m[4, 14:] = True
    things = [True, True, False, False, False]
    classes = ("car", "car", "sky", "sky", "road")
    return Example("street/1", PHOTO, masks=m, classes=classes, extra={"things": things})


def colour_at(picture, y, x):
    return tuple(picture[y, x].tolist())


def palette(n):
    return [tuple(c) for c in masks.distinct_colours(n).tolist()]


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
    for options in (
        dict(palette="tab20"),
        dict(background=(9, 9, 9)),
        dict(max_masks=1),
        dict(order="position"),
        dict(overlap="given"),
    ):
        expected = masks.render(example.masks, **options)
        np.testing.assert_array_equal(make_pair("segmentation", example, RNG, **options).target, expected)
    names = ("circle", "square", "triangle")
    by_class = make_pair("segmentation", example, RNG, palette="class", class_names=names).target
    for mask, shape in zip(example.masks, example.classes, strict=True):
        assert (by_class[mask] == masks.distinct_colours(3)[names.index(shape)]).all()


def test_semantic_colours_are_the_same_in_every_picture():
    options = dict(class_names=("road", "sky", "car"))
    target = make_pair("semantic", street(), RNG, **options).target
    road, sky, car = palette(3)
    assert colour_at(target, 16, 3) == road and colour_at(target, 1, 1) == colour_at(target, 1, 28) == sky
    assert colour_at(target, 5, 5) == colour_at(target, 11, 19) == car and colour_at(target, 12, 3) == (0, 0, 0)
    other = dataclasses.replace(street(), masks=street().masks[4:], classes=("road",))
    assert colour_at(make_pair("semantic", other, RNG, **options).target, 16, 3) == road
    # What the source tells serves where the config says nothing.
    told = dataclasses.replace(street(), extra={"class_names": options["class_names"]})
    np.testing.assert_array_equal(make_pair("semantic", told, RNG).target, target)
    with pytest.raises(DataError, match="street/1: proxy 'semantic' needs the option class_names"):
        make_pair("semantic", street(), RNG)
    with pytest.raises(DataError, match=r"\['car', 'sky'\] are not among class_names"):
        make_pair("semantic", street(), RNG, class_names=("road",))
    with pytest.raises(DataError, match="street/1: 1 classes for 5 masks"):
        make_pair("semantic", dataclasses.replace(street(), classes=("car",)), RNG, **options)


def test_instance_paints_things_and_panoptic_also_stuff_each_kind_as_one_region():
    two, four = palette(2), palette(4)
    instance = make_pair("instance", street(), RNG).target
    assert colour_at(instance, 3, 5) == two[0] and colour_at(instance, 11, 15) == two[1]
    assert colour_at(instance, 1, 1) == colour_at(instance, 16, 3) == (0, 0, 0)
    panoptic = make_pair("panoptic", street(), RNG).target
    # By area: road 180, sky 120 (both pieces, less what cars cover), cars 64 and 60.
    assert colour_at(panoptic, 16, 3) == four[0] and colour_at(panoptic, 5, 5) == four[2]
    assert colour_at(panoptic, 1, 1) == colour_at(panoptic, 1, 28) == four[1] and colour_at(panoptic, 11, 15) == four[3]
    assert colour_at(panoptic, 12, 3) == (0, 0, 0), "void"
    # The option names stuff classes where the source does not tell things from stuff.
    untold = dataclasses.replace(street(), extra={})
    for name, expected in (("instance", instance), ("panoptic", panoptic)):
        target = make_pair(name, untold, RNG, stuff=("sky", "road")).target
        np.testing.assert_array_equal(target, expected)
    assert colour_at(make_pair("instance", untold, RNG).target, 16, 3) == palette(5)[0], "all are things by default"
    with pytest.raises(DataError, match=r"extra\['things'\] has 2 entries for 5 masks"):
        make_pair("instance", dataclasses.replace(street(), extra={"things": [True, False]}), RNG)


def test_a_class_may_be_a_thing_here_and_a_crowd_there():
    example = dataclasses.replace(street(), classes=("car", "car", "car", "sky", "road"))  # a crowd of far cars above
    panoptic = make_pair("panoptic", example, RNG).target
    colours = {colour_at(panoptic, y, x) for y, x in ((5, 5), (11, 15), (1, 1), (1, 28), (16, 3))}
    assert len(colours) == 5, "the single cars are not merged with the crowd"


def test_records_as_sources_store_them_serve_the_proxies():
    """A label picture with things and stuff, as of Cityscapes, through `records.decode`."""
    labels = np.full((20, 30), 7, np.uint16)  # road
    labels[:6], labels[8:14, 4:12], labels[8:14, 18:26] = 23, 26001, 26002  # sky, two cars
    file = io.BytesIO()
    Image.fromarray(labels).save(file, "PNG")
    photo = io.BytesIO()
    Image.fromarray(PHOTO).save(photo, "PNG")
    segments = ((7, "road"), (23, "sky"), (26001, "car"), (26002, "car"))
    extra = {"things": [False, False, True, True], "class_names": ["road", "sky", "car"]}
    record = stored_record.Record("city/1", (photo.getvalue(),), labels=file.getvalue(), segments=segments, extra=extra)
    example = stored_record.decode(stored_record.from_bytes(stored_record.to_bytes(record), "here"))
    counts = {}
    for name in ("segmentation", "semantic", "instance", "panoptic"):
        target = make_pair(name, example, RNG).target
        assert colour_at(target, 10, 5) != colour_at(target, 10, 20) or name == "semantic"
        counts[name] = len(np.unique(target.reshape(-1, 3), axis=0))
    assert counts == {"segmentation": 4, "semantic": 3, "instance": 3, "panoptic": 4}  # instance: two cars and black


def test_outlines_of_masks_and_of_a_shipped_picture():
    example = Example("a", PHOTO, masks=street().masks[:1])
    target = make_pair("outlines", example, RNG).target
    assert target.any(-1).sum() == 28 and not target[3:9, 5:11].any() and (target[2, 4:12] == 255).all()
    assert make_pair("outlines", example, RNG, width=0.06).target.any(-1).sum() == 64 - 16  # two pixels of 36
    picture = np.zeros_like(PHOTO)
    picture[2:10, 4:12] = (9, 200, 30)
    shipped = make_pair("outlines", Example("b", PHOTO, mask_picture=picture), RNG).target.any(-1)
    inside = np.zeros_like(shipped)
    inside[2:11, 4:13] = True
    inside[3:10, 5:12] = False
    np.testing.assert_array_equal(shipped, inside)


def test_referring_paints_what_the_instruction_says():
    expressions = [("the car in front", 1), ("both cars", [0, 1]), ("the road", 4)]
    example = dataclasses.replace(street(), extra={"expressions": expressions})
    seen = {}
    for seed in range(40):
        pair = make_pair("referring", example, np.random.default_rng(seed))
        text, numbers = next((t, n) for t, n in expressions if t in pair.instruction)
        mask = example.masks[np.atleast_1d(numbers)].any(0)
        assert (pair.target[mask] == 255).all() and not pair.target[~mask].any() and pair.flat
        seen[text] = True
    assert len(seen) == 3
    over = make_pair("referring", example, np.random.default_rng(0), ground="photo", colour=(255, 0, 0))
    painted = (over.target == (255, 0, 0)).all(-1)
    assert painted.any() and (over.target[~painted] == 90).all() and not over.flat
    assert (example.image == 90).all(), "the photo itself is not painted on"


def test_referring_by_class_and_its_errors():
    texts = {make_pair("referring", street(), np.random.default_rng(s), style="plain").instruction for s in range(40)}
    assert texts == {"paint each car", "paint each sky", "paint the road"}
    with pytest.raises(DataError, match="the expression 'a ghost' names mask 9, there are 5"):
        make_pair("referring", dataclasses.replace(street(), extra={"expressions": [("a ghost", 9)]}), RNG)
    with pytest.raises(DataError, match="ground='white' must be one of black, photo"):
        make_pair("referring", street(), RNG, ground="white")
    empty = dataclasses.replace(street(), masks=np.zeros((1, 20, 30), bool), classes=("car",))
    with pytest.raises(DataError, match="needs masks with expressions or classes"):
        make_pair("referring", empty, RNG)


def test_detection_frames_given_boxes_and_nothing_else():
    example = Example("a", PHOTO, extra={"boxes": [[2, 3, 12, 9], [20, 10, 40, 18]]})  # the second leaves the picture
    target = make_pair("detection", example, RNG, ground="black").target
    large, small = palette(2)  # the second is cut to 10 x 8 pixels and still the larger
    frame = np.zeros((20, 30), bool)
    frame[3:9, 2:12] = True
    frame[4:8, 3:11] = False
    assert (target[frame] == small).all()
    other = np.zeros((20, 30), bool)
    other[10:18, 20:30] = True
    other[11:17, 21:29] = False
    assert (target[other] == large).all() and not target[~frame & ~other].any()
    thick = make_pair("detection", example, RNG, width=0.06).target  # two pixels
    assert (thick[3:5, 2:12] == small).all() and (thick[5:7, 4:10] == 90).all()
    with pytest.raises(DataError, match="a box ends before it begins; boxes are left, top, right, bottom"):
        make_pair("detection", Example("a", PHOTO, extra={"boxes": [[12, 3, 2, 9]]}), RNG)
    with pytest.raises(DataError, match="needs at least one object"):
        make_pair("detection", Example("a", PHOTO, extra={"boxes": []}), RNG)
