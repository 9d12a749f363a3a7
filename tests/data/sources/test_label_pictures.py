"""ADE20K, Cityscapes and Oxford-IIIT Pet in their true folders: ids become named masks, and bad files are counted."""

import numpy as np
import pytest
from PIL import Image

from sgt_jax.data.sources import ade20k, cityscapes, open_source
from sgt_jax.data.sources.reading.labels import read_names
from sgt_jax.data.stored.record import BadRecord
from sgt_jax.errors import DataError
from tests.support.reading import encoded, kinds, photo, put, read_all


def grey(rows):
    return encoded(np.array(rows, np.uint8))


@pytest.fixture
def ade(tmp_path):
    """Two good photos, one in capitals, in folders whose names hold the words that careless readers replace."""
    root = tmp_path / "jpg" / "annotations" / "ADEChallengeData2016"
    labels = np.zeros((8, 12), np.uint8)
    labels[:4], labels[4:, 6:] = 3, 150
    for number, name in enumerate(["ADE_train_00000001.jpg", "ADE_train_00000002.JPG"]):
        put(root / "images/training" / name, photo(40 * number))
        put(root / "annotations/training" / (name[:-3] + "png"), grey(labels))
    put(root / "images/training/._ADE_train_00000001.jpg", "resource fork")
    put(root / "annotations/training/._ADE_train_00000001.png", "resource fork")
    return root


def test_ade_semantic(ade):
    good, bad = read_all(open_source({"type": "ade20k", "root": str(ade)}))
    assert not bad and list(good) == [
        "images/training/ADE_train_00000001.jpg",
        "images/training/ADE_train_00000002.JPG",
    ]
    example = good["images/training/ADE_train_00000002.JPG"]
    assert example.classes == ("sky", "flag") and abs(int(example.image[0, 0, 0]) - 40) < 4
    assert (
        example.masks.sum((1, 2)).tolist() == [48, 24] and example.masks[0, :4].all() and example.masks[1, 4:, 6:].all()
    )
    assert len(example.extra["class_names"]) == 150 and "things" not in example.extra


def test_ade_bad_files_are_counted_and_the_good_ones_arrive(ade):
    labels, photos = ade / "annotations/training", ade / "images/training"
    put(photos / "ADE_train_00000003.jpg", photo())  # no mask
    put(labels / "ADE_train_00000004.png", grey(np.zeros((8, 12))))  # no photo
    for number, (picture, mask) in enumerate(
        [
            (photo()[:200], grey(np.ones((8, 12)))),  # truncated
            (photo(), grey(np.full((8, 12), 151))),
            (photo(), b""),
            (photo(), grey(np.ones((8, 12)))[:40]),
            (photo(), grey(np.ones((12, 8)))),
        ],
        start=5,
    ):
        put(photos / f"ADE_train_{number:08}.jpg", picture)
        put(labels / f"ADE_train_{number:08}.png", mask)
    put(labels / "ADE_train_00000001.PNG", grey(np.zeros((8, 12))))  # two masks for one photo
    good, bad = read_all(open_source({"type": "ade20k", "root": str(ade)}))
    assert list(good) == ["images/training/ADE_train_00000002.JPG"]
    assert kinds(bad) == {
        "ambiguous mask": 1,
        "missing mask": 1,
        "missing picture": 1,
        "unreadable picture": 1,
        "unknown label": 1,
        "unreadable mask": 2,
        "mask size": 1,
    }
    reasons = {b.kind: b.reason for b in bad}
    assert "'ADE_train_00000003' has no mask, expected" in reasons["missing mask"]
    assert "annotations/training/ADE_train_00000003.png" in reasons["missing mask"]
    assert "ADE_train_00000006.jpg: the label picture holds the unknown ids 151" in reasons["unknown label"]


def test_ade_instances(ade):
    """R is the class, G the instance: two people, a flag, and ids above 65535 where somebody used B."""
    coded = np.zeros((8, 12, 3), np.uint8)
    coded[:2, :, :2], coded[2:4, :, :2], coded[4:6, :, :2] = (4, 1), (4, 2), (100, 3)
    coded[6] = (1, 4, 2)
    for number in (1, 2):
        put(ade / f"annotations_instance/training/ADE_train_0000000{number}.png", encoded(coded))
    good, bad = read_all(open_source({"type": "ade20k", "root": str(ade), "kind": "instance"}))
    example = good["images/training/ADE_train_00000001.jpg"]
    assert not bad and example.classes == ("person", "person", "flag", "bed")
    assert example.masks.sum((1, 2)).tolist() == [24, 24, 24, 12] and all(example.extra["things"])
    assert len(ade20k.INSTANCE_CLASSES) == 100 and ade20k.instance_class(4 + 256 * 7) == "person"
    with pytest.raises(KeyError):
        ade20k.instance_class(101)


def test_ade_names_of_the_published_table(ade):
    rows = [f"{i} \t0.1\t1\t1\t{name} , other" for i, name in enumerate(ade20k.CLASSES, 1)]
    put(ade / "objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName\n" + "\n".join(rows).replace("sky", "heaven") + "\n")
    source = open_source({"type": "ade20k", "root": str(ade), "names": "objectInfo150.txt"})
    assert source[0].classes == ("heaven", "flag")
    put(ade / "broken.txt", "Idx\tName\n1\twall\n3\tsky\n")
    with pytest.raises(DataError, match=r"broken.txt, line 3: expected class 2"):
        read_names(ade / "broken.txt")
    with pytest.raises(DataError, match="the first line must be a header"):
        read_names(put(ade / "empty.txt", ""))


def test_missing_folders_say_what_to_unpack(tmp_path):
    with pytest.raises(DataError, match="images/training: no such folder; unpack ADEChallengeData2016.zip"):
        open_source({"type": "ade20k", "root": str(tmp_path)})
    with pytest.raises(DataError, match="kind='panoptic' must be one of semantic, instance"):
        open_source({"type": "ade20k", "root": str(tmp_path), "kind": "panoptic"})
    with pytest.raises(DataError, match="no such folder; unpack images.tar.gz"):
        open_source({"type": "pets", "root": str(tmp_path)})
    (tmp_path / "images/training").mkdir(parents=True)
    (tmp_path / "annotations/training").mkdir(parents=True)
    with pytest.raises(DataError, match="images/training: holds no pictures"):
        open_source({"type": "ade20k", "root": str(tmp_path)})


@pytest.fixture
def streets(tmp_path):
    instances = np.zeros((8, 16), np.uint16)
    instances[0], instances[1], instances[2:4], instances[4:6], instances[6], instances[7] = 23, 6, 26001, 26012, 24, 9
    for city, frame in (("aachen", "000000"), ("bochum", "000313")):
        stem = f"train/{city}/{city}_{frame}_000019"
        put(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png", photo(5, 16, 8, "PNG"))
        put(tmp_path / f"gtFine/{stem}_gtFine_instanceIds.png", encoded(instances))
        labels = np.where(instances >= 1000, instances // 1000, instances).astype(np.uint8)
        put(tmp_path / f"gtFine/{stem}_gtFine_labelIds.png", encoded(labels))
        put(tmp_path / f"gtFine/{stem}_gtFine_color.png", photo(0, 16, 8, "PNG"))
        put(tmp_path / f"gtFine/{stem}_gtFine_polygons.json", "{}")
    return tmp_path


def test_cityscapes_instances_and_classes(streets):
    good, bad = read_all(open_source({"type": "cityscapes", "root": str(streets)}))
    assert not bad and len(good) == 2
    example = good["leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"]
    assert example.classes == ("parking", "sky", "person", "car", "car")
    assert list(example.extra["things"]) == [False, False, True, True, True]
    assert example.masks.sum((1, 2)).tolist() == [16, 16, 16, 32, 32]
    semantic = open_source({"type": "cityscapes", "root": str(streets), "kind": "semantic", "only_evaluated": True})[1]
    assert semantic.classes == ("sky", "person", "car") and len(semantic.extra["class_names"]) == 19


def test_cityscapes_bad_files(streets):
    stem = "train/aachen/aachen_000001_000019"
    put(streets / f"leftImg8bit/{stem}_leftImg8bit.png", photo(5, 16, 8, "PNG"))
    put(streets / f"gtFine/{stem}_gtFine_instanceIds.png", encoded(np.full((8, 16), 40001, np.uint16)))
    put(streets / "leftImg8bit/train/aachen/aachen_000002_000019_leftImg8bit.png", photo(5, 16, 8, "PNG"))
    put(streets / "leftImg8bit/train/aachen/some_other.png", photo())  # no picture of the data set
    good, bad = read_all(open_source({"type": "cityscapes", "root": str(streets)}))
    assert len(good) == 2 and kinds(bad) == {"unknown label": 1, "missing mask": 1}
    assert cityscapes.label_of(26012) == 26 and cityscapes.label_of(33) == 33


@pytest.fixture
def pets(tmp_path):
    trimap = np.full((8, 12), 2, np.uint8)
    trimap[2:6, 2:8], trimap[3:5, 3:7] = 3, 1
    gif = Image.new("P", (12, 8))
    pictures = {
        "Abyssinian_1": photo(10),
        "Abyssinian_34": encoded(gif, "GIF"),  # mis-encoded, as a dozen of the real ones
        "american_bulldog_10": encoded(Image.new("RGB", (12, 8), (70, 0, 0)), "PNG"),
        "beagle_7": encoded(Image.new("CMYK", (12, 8)), "JPEG"),
    }
    for name, data in pictures.items():
        put(tmp_path / f"images/{name}.jpg", data)
        put(tmp_path / f"annotations/trimaps/{name}.png", encoded(trimap))
        put(tmp_path / f"annotations/trimaps/._{name}.png", "resource fork")
    put(tmp_path / "images/Abyssinian_100.mat", "not a picture")
    lines = "american_bulldog_10 2 2 1\nAbyssinian_1 1 1 1\nAbyssinian_34 1 1 1\n"
    put(tmp_path / "annotations/trainval.txt", lines)
    put(
        tmp_path / "annotations/list.txt",
        "#Image CLASS-ID SPECIES BREED ID\n#1:37 1:Cat 2:Dog\n" + lines + "beagle_7 5 2 4\n",
    )
    return tmp_path


def test_pets(pets):
    good, bad = read_all(open_source({"type": "pets", "root": str(pets)}))
    assert not bad
    assert list(good) == [f"images/{n}.jpg" for n in ("american_bulldog_10", "Abyssinian_1", "Abyssinian_34")]
    dog = good["images/american_bulldog_10.jpg"]
    assert dog.classes == ("american bulldog",) and dog.masks.sum() == 8 and dog.image[0, 0, 0] == 70
    assert dog.extra == {"species": "dog", "breed": "american bulldog"}
    everything, bad = read_all(
        open_source({"type": "pets", "root": str(pets), "split": "list", "names": "species", "border": True})
    )
    assert len(everything) == 4 and not bad
    assert everything["images/Abyssinian_1.jpg"].classes == ("cat", "border")
    assert everything["images/Abyssinian_1.jpg"].masks[1].sum() == 16
    assert everything["images/beagle_7.jpg"].image.shape == (8, 12, 3)


def test_pets_bad_lines_and_files(pets):
    trainval = pets / "annotations/trainval.txt"
    put(trainval, trainval.read_bytes() + b"Persian_1 24 1 9\nBombay_2 5\n\xff\xfe_3 1 1 1\nbeagle_7 5 3 4\n")
    (pets / "annotations/trimaps/Abyssinian_34.png").unlink()
    good, bad = read_all(open_source({"type": "pets", "root": str(pets)}))
    assert list(good) == ["images/american_bulldog_10.jpg", "images/Abyssinian_1.jpg"]
    assert kinds(bad) == {"missing mask": 1, "missing picture": 2, "bad line": 2}
    assert "trainval.txt, line 5: b'Bombay_2 5'" in next(b.reason for b in bad if b.kind == "bad line")


def test_grey_with_alpha_is_still_an_id(ade):
    (ade / "annotations/training/ADE_train_00000002.png").write_bytes(encoded(Image.new("LA", (12, 8), (3, 128))))
    assert open_source({"type": "ade20k", "root": str(ade)})[1].classes == ("sky",)


def test_a_record_that_is_asked_for_directly_raises(ade):
    (ade / "annotations/training/ADE_train_00000002.png").unlink()
    source = open_source({"type": "ade20k", "root": str(ade)})
    with pytest.raises(BadRecord, match="has no mask"):
        source[1]
    with pytest.raises(IndexError):
        source[2]
