"""COCO panoptic: large ids, void and crowds are read right, and picture and annotation must agree."""

import json
import pickle

import numpy as np
import pytest

from sgt_jax.data import proxies
from sgt_jax.data.sources import open_source
from sgt_jax.data.sources.coco_panoptic import CocoPanoptic
from sgt_jax.errors import DataError
from tests.support import hostile_files as hostile
from tests.support.reading import kinds, read_all

CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person", "isthing": 1, "color": [220, 20, 60]},
    {"id": 90, "name": "toothbrush", "supercategory": "indoor", "isthing": 1, "color": [1, 2, 3]},
    {"id": 200, "name": "rug-merged", "supercategory": "textile", "isthing": 0, "color": [4, 5, 6]},
]
LARGE = 200 + 256 * 100 + 65536 * 3  # an id that needs all three channels


def segment(number, category, crowd=0):
    return {"id": number, "category_id": category, "area": 1, "bbox": [0, 0, 1, 1], "iscrowd": crowd}


def ids(*columns):
    """16 x 24 label picture, of equal upright stripes."""
    return np.repeat(np.array(columns), 24 // len(columns))[None].repeat(16, 0)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "panoptic_train2017" / "coco"
    add(root, 1, ids(0, 5, LARGE, 300), [segment(LARGE, 1), segment(5, 200), segment(300, 90, crowd=1)])
    add(root, 2, ids(7, 7, 9, 9), [segment(7, 1), segment(9, 1)])
    return root


def add(root, number, labels, segments, photo=None, png=None):
    """A picture and its annotation, added to the json."""
    path = root / "annotations/panoptic_train2017.json"
    content = json.loads(path.read_text()) if path.exists() else dict(images=[], annotations=[], categories=CATEGORIES)
    name = f"{number:012}"
    content["images"].append({"id": number, "file_name": f"{name}.jpg", "width": 24, "height": 16})
    content["annotations"].append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
    hostile.write(root / f"train2017/{name}.jpg", hostile.numbered(number) if photo is None else photo)
    hostile.write(root / f"annotations/panoptic_train2017/{name}.png", hostile.ids_png(labels) if png is None else png)
    save(root, content)
    return content


def save(root, content):
    hostile.write(root / "annotations/panoptic_train2017.json", json.dumps(content).encode())


def test_ids_void_and_crowds(root):
    source = open_source({"type": "coco_panoptic", "root": str(root)})
    good, bad = read_all(source)
    assert not bad and list(good) == ["000000000001.jpg", "000000000002.jpg"]
    first = good["000000000001.jpg"]
    assert first.classes == ("person", "rug-merged") and first.extra["things"] == [True, False]
    assert hostile.number_of(first.image) == 1
    labels = ids(0, 5, LARGE, 300)
    np.testing.assert_array_equal(first.masks, [labels == LARGE, labels == 5])
    assert good["000000000002.jpg"].masks.sum((1, 2)).tolist() == [192, 192]
    kept = CocoPanoptic(root, crowds="keep")[0]
    assert kept.classes == ("person", "rug-merged", "toothbrush") and kept.masks[2].sum() == 96
    assert pickle.loads(pickle.dumps(source))[1].name == source[1].name
    for proxy in ("segmentation", "semantic", "instance", "panoptic"):
        pair = proxies.make_pair(proxy, source[0], np.random.default_rng(0))
        assert pair.target.shape == (16, 24, 3) and (pair.target != pair.condition).any()


def test_a_picture_without_segments_is_a_record_without_masks(root):
    add(root, 3, ids(0), [])
    example = CocoPanoptic(root)[2]
    assert example.masks.shape == (0, 16, 24) and example.classes == ()


def test_pictures_and_annotations_that_disagree_are_bad_records_and_the_rest_arrives(root):
    add(root, 3, ids(7, 8), [segment(7, 1)])  # 8 is not listed
    add(root, 4, ids(7, 7), [segment(7, 1), segment(8, 1)])  # 8 does not occur
    add(root, 5, np.ones((8, 8), int), [segment(1, 1)])  # of another picture
    add(root, 6, ids(1), [segment(1, 1)], photo=hostile.truncated_jpeg((24, 16)))
    add(root, 7, ids(1), [segment(1, 1)], png=b"")
    add(root, 8, ids(1), [segment(1, 1)], png=hostile.bomb_png())
    add(root, 9, ids(1), [segment(1, 200)])
    content = add(root, 10, ids(1), [segment(1, 200)])
    content["images"][-1]["file_name"] = "../annotations/panoptic_train2017.json"
    save(root, content)
    (root / "train2017/000000000002.jpg").unlink()
    good, bad = read_all(CocoPanoptic(root))
    assert list(good) == ["000000000001.jpg", "000000000009.jpg"]
    assert kinds(bad) == {
        "unlisted segment": 1, "absent segment": 1, "mask size": 1, "unreadable picture": 1,
        "unreadable mask": 2, "path outside": 1, "missing picture": 1}  # fmt: skip
    reasons = {b.kind: b.reason for b in bad}
    assert "000000000003.jpg: the label picture holds the ids [8]" in reasons["unlisted segment"]


def test_annotations_that_cannot_be_used_are_named_on_opening(root):
    content = add(root, 3, ids(1), [segment(1, 91)])
    content["annotations"] += [
        {"image_id": 77, "file_name": "x.png", "segments_info": []},
        {"image_id": 1, "file_name": "x.png", "segments_info": []},
        {"image_id": 4, "file_name": "x.png"},
        {"image_id": 5, "file_name": "x.png", "segments_info": [segment(1, 1), segment(1, 1)]},
    ]
    content["images"] += [{"id": i, "file_name": f"{i}.jpg"} for i in (4, 5, 6)]
    save(root, content)
    with pytest.raises(DataError, match=r"annotation 2: the category ids \[91\].*\(6 such in all\)"):
        CocoPanoptic(root)
    source = CocoPanoptic(root, on_bad="skip")
    assert kinds(source.left_out) == {
        "unknown category": 1, "unknown picture": 1, "duplicate annotation": 1, "bad annotation": 1,
        "bad segment ids": 1, "missing annotation": 1}  # fmt: skip
    good, bad = read_all(source)
    assert len(good) == 2 and len(bad) == 6


def test_other_files_say_what_to_do(root):
    with pytest.raises(DataError, match="panoptic_val2017: no such folder.*; unzip"):
        CocoPanoptic(root, split="val2017")
    with pytest.raises(DataError, match="other.json: cannot be read"):
        CocoPanoptic(root, annotations="annotations/other.json")
    with pytest.raises(DataError, match="choose 'void' or 'keep'"):
        CocoPanoptic(root, crowds="paint")
    for text, message in (
        ('{"images": [], "annotations": [], "categories": []}', "lists no annotations"),
        ('{"images": []}', "not COCO panoptic's json .KeyError: 'categories'"),
        ("[1]", "not COCO panoptic's json but a list"),
        ('{"images": [', "not JSON"),
    ):
        hostile.write(root / "annotations/panoptic_train2017.json", text.encode())
        with pytest.raises(DataError, match=message):
            CocoPanoptic(root)
    with pytest.raises(DataError, match="mount the bucket"):
        CocoPanoptic("gs://bucket/coco")
