"""TFDS data sets prepared as ArrayRecord, read without TensorFlow: the known ones, mappings for others, broken records."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from sgt_jax.data.pictures import rle
from sgt_jax.data.sources import open_source
from sgt_jax.errors import DataError
from tests.support import tfds_fixtures as fixtures
from tests.support.reading import encoded, kinds, photo, read_all
from tests.support.tfds_fixtures import BOX, F, prepare


def opened(root, **options):
    return open_source({"type": "tfds", "root": str(root), **options})


def grey(value, width=12, height=8):
    return encoded(np.full((height, width), value, np.uint8))


TRIMAP = np.full((8, 12), 2, np.uint8)
TRIMAP[2:6, 2:8], TRIMAP[3:5, 3:7] = 3, 1


def pet(number, label=1, mask=None, picture=None):
    return {
        "image": photo(number) if picture is None else picture,
        "label": label,
        "species": label,
        "file_name": f"pet_{number}.jpg",
        "segmentation_mask": encoded(TRIMAP) if mask is None else mask,
        "head_bbox": BOX,
    }


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Good pets 1, 0 and 7, in an order that TFDS shuffles, with five broken ones."""
    rows = [
        pet(1),
        pet(2, picture=photo(2)[:200]),
        pet(3, mask=grey(9)),
        pet(0, label=0),
        pet(4, mask=encoded(TRIMAP)[:50]),
        pet(5, mask=grey(1, 8, 12)),
        pet(6, picture=b""),
        pet(7),
    ]
    return prepare(tmp_path_factory.mktemp("tfds"), "oxford_iiit_pet", fixtures.PETS, rows)


def test_pets_with_broken_records(pets):
    source = opened(pets)
    good, bad = read_all(source)
    by_number = {name.rsplit("_", 1)[1]: example for name, example in good.items()}
    assert sorted(by_number) == ["0.jpg", "1.jpg", "7.jpg"] and len(source) == 8
    assert by_number["1.jpg"].classes == ("american bulldog",) and by_number["1.jpg"].masks.sum() == 8
    assert by_number["0.jpg"].extra == {"species": "cat", "breed": "abyssinian"}
    broken = {"unreadable picture": 1, "unknown label": 1, "unreadable mask": 1, "mask size": 1, "missing picture": 1}
    assert kinds(bad) == broken


def test_the_prepared_bytes_are_kept(pets):
    source = opened(pets)
    record = next(r for i in range(8) if (r := _record(source, i)) and r.name.endswith("pet_1.jpg"))
    assert record.images == (photo(1),) and record.labels == encoded(TRIMAP)


def _record(source, i):
    try:
        return source.record(i)
    except DataError:
        return None


def test_splits_and_limits(pets):
    assert len(opened(pets, split="train[:50%]")) == 4 and len(opened(pets, limit=3)) == 3
    with pytest.raises(DataError, match="cannot open split 'test' .* it has train"):
        opened(pets, split="test")
    with pytest.raises(IndexError):
        opened(pets, limit=3)[3]


def test_a_mapping_in_place_of_what_is_known(pets):
    source = opened(pets, image="image", label="label", caption="file_name")
    example = next(source[i] for i in range(8) if (r := _record(source, i)) and r.caption == "pet_0.jpg")
    assert example.extra == {"label": "Abyssinian"} and example.masks is None
    source = opened(
        pets, image="image", mask="segmentation_mask", class_names=["pet", "ground", "edge"], name="file_name"
    )
    example = next(source[i] for i in range(8) if (r := _record(source, i)) and r.name.endswith("pet_1.jpg"))
    assert example.classes == ("pet", "ground", "edge")
    with pytest.raises(DataError, match="has no feature 'photo' for image; it has file_name, head_bbox, image"):
        opened(pets, image="photo")
    with pytest.raises(DataError, match=r"unknown options \['picture'\]; features can be mapped to image, right"):
        opened(pets, picture="image")


def test_copies_in_other_formats_and_other_folders_say_what_to_do(pets, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pets, copy)
    info = json.loads((copy / "dataset_info.json").read_text())
    (copy / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(
        DataError, match="not in the format array_record; prepare it again with .*file_format='array_record'"
    ):
        opened(copy)
    (copy / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="not a prepared TFDS data set"):
        opened(copy)
    with pytest.raises(DataError, match="holds no dataset_info.json; give the folder of the version"):
        opened(tmp_path)


def test_damaged_blocks_are_bad_records(pets, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pets, copy)
    file = next(copy.glob("*.array_record*"))
    data = bytearray(file.read_bytes())
    place = data.find(b"JFIF")
    assert place > 0, "records are stored uncompressed; spoil the first one"
    data[place - 64 : place + 64] = b"\xff" * 128
    file.write_bytes(data)
    source = opened(copy)
    good, bad = read_all(source)
    assert len(good) + len(bad) == len(source) and "unreadable record" in kinds(bad)
    assert "prepare the data set again" in next(b.reason for b in bad if b.kind == "unreadable record")


def test_scene_parse150_instances(tmp_path):
    coded = np.zeros((8, 12, 3), np.uint8)
    coded[:2, :, :2], coded[2:4, :, :2] = (4, 1), (100, 2)
    root = prepare(tmp_path, "scene_parse150", fixtures.SCENES, [{"image": photo(), "annotation": encoded(coded)}])
    example = opened(root)[0]
    assert example.classes == ("person", "flag") and example.masks.sum((1, 2)).tolist() == [24, 24]


def test_cityscapes_labels(tmp_path):
    labels = np.zeros((8, 16), np.uint8)
    labels[0], labels[1] = 23, 26
    row = {
        "image_id": "aachen_000000_000019",
        "image_left": photo(5, 16, 8, "PNG"),
        "segmentation_label": encoded(labels),
    }
    root = prepare(tmp_path, "cityscapes", fixtures.STREETS, [row], config="semantic_segmentation")
    assert root.parent.name == "semantic_segmentation"
    example = opened(root)[0]
    assert example.classes == ("sky", "car") and example.extra["things"] == [False, True]
    assert example.name == "cityscapes/train/0/aachen_000000_000019"


def test_nyu_depth(tmp_path):
    depth = np.linspace(0, 7, 96, dtype=np.float16).reshape(8, 12)
    root = prepare(tmp_path, "nyu_depth_v2", fixtures.DEPTH, [{"image": photo(form="PNG"), "depth": depth}])
    example = opened(root)[0]
    assert example.depth.dtype == np.float32 and np.isnan(example.depth[0, 0])
    assert np.array_equal(example.depth.reshape(-1)[1:], depth.astype(np.float32).reshape(-1)[1:])


def test_coco_panoptic_with_ids_above_65535(tmp_path):
    big = 5 + 256 * 6 + 65536 * 7
    coded = np.zeros((8, 12, 3), np.uint8)
    coded[:2], coded[2:4], coded[4] = (5, 6, 7), (9, 0, 0), (30, 0, 0)

    def row(number, *objects):
        boxes = [{"id": i, "area": 24, "bbox": BOX, "label": label, "is_crowd": i == 30} for i, label in objects]
        names = {"image/filename": f"{number}.jpg", "panoptic_image/filename": f"{number}.png", "image/id": number}
        return names | {"image": photo(), "panoptic_image": encoded(coded), "panoptic_objects": boxes}

    both = ((big, 0), (30, 2), (9, 90))  # 30 is a crowd
    rows = [row(1, *both), row(2), row(3, *both, (10, 3))]
    root = prepare(tmp_path, "coco", fixtures.PANOPTIC, rows, config="2017_panoptic", version="1.1.0")
    assert root.parts[-3:] == ("coco", "2017_panoptic", "1.1.0")
    good, bad = read_all(opened(root))
    (example,) = good.values()
    assert example.name.endswith("/1.jpg") and example.classes == ("thing 0", "stuff 10")
    assert list(example.extra["things"]) == [True, False] and example.masks.sum((1, 2)).tolist() == [24, 24]
    assert kinds(bad) == {"unlisted segment": 1, "absent segment": 1}


def test_segment_anything(tmp_path):
    mask = np.zeros((8, 12), bool)
    mask[2:6, 6:] = True
    annotation = {
        "area": 24,
        "bbox": BOX,
        "crop_box": BOX,
        "id": 5,
        "point_coords": np.zeros((1, 2)),
        "predicted_iou": 0.9,
        "segmentation": rle.encode(mask),
        "stability_score": 0.8,
    }
    head = {"height": 8, "width": 12, "image_id": 3}
    rows = [
        {"image": head | {"content": photo(), "file_name": f"sa_{n}.jpg"}, "annotations": [annotation] * n}
        for n in (0, 2)
    ]
    good, bad = read_all(opened(prepare(tmp_path, "segment_anything", fixtures.SEGMENT_ANYTHING, rows)))
    by_name = {name.rsplit("/", 1)[1]: example for name, example in good.items()}
    assert not bad and by_name["sa_0.jpg"].masks is None
    example = by_name["sa_2.jpg"]
    assert np.array_equal(example.masks, [mask, mask]) and example.extra["image_id"] == 3
    assert np.allclose(example.extra["boxes"], [[6, 2, 12, 6]] * 2) and np.allclose(example.extra["predicted_iou"], 0.9)


def test_referring_expressions(tmp_path):
    def thing(number, *texts):
        mask = np.zeros((8, 12), np.uint8)
        mask[number] = 255
        spoken = [{"refexp_id": i, "raw": text} for i, text in enumerate(texts)]
        numbers = {"id": number, "area": 12, "bbox": BOX, "label": 1, "gt_box_index": 0}
        return numbers | {"mask": encoded(mask), "refexp": spoken}

    rows = [{"image": photo(), "image/id": 1, "objects": [thing(2, "the left dog", "dog"), thing(3, "a cat")]}]
    root = prepare(tmp_path, "ref_coco", fixtures.REFERRING, rows)
    example = next(iter(read_all(opened(root))[0].values()))
    assert example.masks.sum((1, 2)).tolist() == [12, 12] and example.masks[0, 2].all() and example.masks[1, 3].all()
    assert [tuple(pair) for pair in example.extra["expressions"]] == [("the left dog", 0), ("dog", 0), ("a cat", 1)]


def test_an_unknown_data_set_needs_a_mapping(tmp_path):
    features = {
        "photo": F.FeaturesDict({"left": F.Image(), "right": F.Image(), "text": F.Text()}),
        "parts": F.Sequence({"mask": F.Image(shape=(None, None, 1)), "kind": F.ClassLabel(names=["wheel", "door"])}),
    }
    half = np.zeros((8, 12), np.uint8)
    half[:4] = 1
    part = {"mask": encoded(half), "kind": 1}
    rows = [{"photo": {"left": photo(1), "right": photo(90), "text": "a b\u00fcs"}, "parts": [part]}]
    root = prepare(tmp_path, "my_vans", features, rows)
    with pytest.raises(
        DataError, match="'my_vans' is none of .*: say which feature is what.* photo/left, photo/right, photo/text"
    ):
        opened(root)
    roles = {"image": "photo/left", "right": "photo/right", "caption": "photo/text"}
    example = opened(root, masks="parts/mask", classes="parts/kind", **roles)[0]
    assert example.caption == "a b\u00fcs" and example.classes == ("door",) and example.masks.sum() == 48
    assert [p.shape for p in example.images] == [(8, 12, 3)] * 2
    assert int(example.images[1][0, 0, 0]) - int(example.images[0][0, 0, 0]) > 50


def test_no_tensorflow_and_no_jax_are_imported(pets):
    code = (
        "import sys; from sgt_jax.data.sources import open_source;"
        f"len(open_source({{'type': 'tfds', 'root': {str(pets)!r}, 'image': 'image'}}).shards()[0].source.record(1).images);"
        "print(sorted({'tensorflow', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr[-2000:]
