"""Forms in which people's data come, each of them read as meant, or counted and named: a test per kind."""

import base64
import csv
import io
import json
import tarfile
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from sgt_jax.data.pictures import rle
from sgt_jax.data.sources import open_source
from sgt_jax.data.stored.record import Bad
from sgt_jax.errors import DataError
from tests.support import hostile_files as hostile
from tests.support.reading import kinds, read_all

PHOTO = hostile.numbered(3)
put = hostile.write


def opened(kind, root, **options):
    return open_source({"type": kind, "root": str(root), **options}, on_bad="skip")


def table(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)


@pytest.mark.parametrize(
    ("cell", "captions"),
    [
        ({"short": "a cup", "long": "a red cup"}, ["a cup", "a red cup"]),
        ({"text": "a cup", "score": 0.5}, ["a cup"]),
        ([{"text": "one"}, {"text": "two"}], ["one", "two"]),
        ('["one", "two"]', ["one", "two"]),
        ("['one', 'two']", ["one", "two"]),
        ("[logo] a cup [small]", ["[logo] a cup [small]"]),
        (b"a cup", ["a cup"]),
    ],
)
def test_captions_in_every_type_of_cell(tmp_path, cell, captions):
    table(tmp_path / "a.parquet", image=[PHOTO], captions=[cell])
    shard = opened("text_to_image_parquet", tmp_path).shards()[0]
    record = next(iter(shard))
    assert [record.caption, *record.extra.get("captions", [record.caption])[1:]] == captions
    assert shard.passed_over == ({"fields 'score' of a struct of texts": 1} if "score" in str(cell) else {})


def test_a_number_is_no_caption(tmp_path):
    table(tmp_path / "a.parquet", image=[PHOTO], captions=[7])
    assert kinds(read_all(opened("text_to_image_parquet", tmp_path))[1]) == {"unknown cell": 1}


def test_pictures_as_base64_and_as_paths_beside_the_table(tmp_path):
    put(tmp_path / "pictures/a b.jpg", PHOTO)
    text = base64.b64encode(PHOTO).decode()
    cells = [text, "data:image/jpeg;base64," + text, "pictures\\a b.jpg", "../a.jpg", "gone.jpg", "https://x.org/a.jpg"]
    table(tmp_path / "a.parquet", image=cells, captions=["a cup"] * 6, seen=[1] * 6)
    source = opened("text_to_image_parquet", tmp_path)
    good, bad = read_all(source)
    assert [hostile.number_of(e.image) for e in good.values()] == [3, 3, 3]
    assert kinds(bad) == {"path outside": 1, "missing picture": 1, "picture elsewhere": 1}
    assert source.passed_over["files with the column 'seen'"] >= 1


def test_the_wordings_of_one_edit_and_steps_of_a_series(tmp_path):
    columns = dict(
        edited=[["make it red"], ["red", "turn red"], ["a", "b", "c"]], source=[PHOTO] * 3, target=[PHOTO] * 3
    )
    table(tmp_path / "pairs/a.parquet", **columns)
    good, bad = read_all(
        opened("editing_parquet", tmp_path / "pairs", pictures=["source", "target"], instructions="edited")
    )
    assert [e.extra["instructions"] for e in good.values()] == [[steps] for steps in columns["edited"]] and not bad
    table(
        tmp_path / "series/a.parquet", image_list=[[PHOTO] * 3, [PHOTO] * 3], instruction_list=[["one", "two"], ["x"]]
    )
    good, bad = read_all(opened("editing_parquet", tmp_path / "series"))
    assert [e.extra["instructions"] for e in good.values()] == [[["one"], ["two"]]] and kinds(bad) == {
        "picture count": 1
    }


ASKED = [{"from": "human", "value": "what ?"}, {"from": "gpt", "value": "a cup"}]
SAID = [{"role": "user", "content": "<image>what ?"}, {"role": "assistant", "content": "a cup"}]
PARTS = [
    {"role": "user", "content": [{"type": "image", "image": "a.jpg"}, {"type": "text", "text": "what ?"}]},
    SAID[1],
]
ITEMS = {
    "images": ({"images": ["a.jpg"], "conversations": ASKED}, 1),
    "messages": ({"image": "a.jpg", "messages": SAID}, 1),
    "parts": ({"messages": PARTS}, 1),
    "windows": ({"image": "sub\\b.jpg", "conversations": ASKED}, 1),
    "no picture": ({"image": "None", "conversations": ASKED}, 0),
    "struct": ({"image": {"path": "a.jpg"}, "conversations": ASKED}, 1),
    "unknown picture": ({"img_path": "a.jpg", "conversations": ASKED}, "unknown key"),
    "twice": ({"image": "a.jpg", "images": ["a.jpg"], "conversations": ASKED}, "bad item"),
    "score": ({"image": "a.jpg", "conversations": ASKED, "score": 3}, 1),
}


def test_conversations_in_every_form(tmp_path):
    put(tmp_path / "images/a.jpg", PHOTO)
    put(tmp_path / "images/sub/b.jpg", PHOTO)
    put(tmp_path / "annotations/all_data.json", json.dumps([item for item, _ in ITEMS.values()]).encode())
    source = opened("llava_onevision", tmp_path, untagged="first")
    found = [item for shard in source.shards() for item in shard]
    got = [item.kind if isinstance(item, Bad) else len(item.images) for item in found]
    assert dict(zip(ITEMS, got, strict=True)) == {name: expected for name, (_, expected) in ITEMS.items()}
    assert source.passed_over == {"keys 'score'": 1}


def test_conversations_in_a_table(tmp_path):
    hub = [{"bytes": PHOTO, "path": None}]
    table(tmp_path / "a.parquet", images=[hub], messages=[SAID], difficulty=[2])
    source = opened("llava_onevision_parquet", tmp_path)
    shard = source.shards()[0]
    assert [len(record.images) for record in shard] == [1]
    assert shard.passed_over == {"files with the column 'difficulty'": 1}


def test_every_suffix_counts_and_what_is_no_picture_is_counted(tmp_path, caplog):
    forms = dict(jfif="JPEG", bmp="BMP", tif="TIFF", gif="GIF", avif="AVIF", jp2="JPEG2000", JPG="JPEG")
    for suffix, form in forms.items():
        put(tmp_path / f"{suffix}.{suffix}", hostile.encoded(Image.new("RGB", (24, 16), (28, 28, 28)), form))
    put(tmp_path / "phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40)
    put(tmp_path / "notes.md", b"x")
    source = opened("folder", tmp_path)
    good, bad = read_all(source)
    assert {hostile.number_of(e.image) for e in good.values()} == {3} and len(good) == len(forms)
    assert len(bad) == 1 and "pillow-heif" in bad[0].reason
    assert source.passed_over == {"files .md": 1} and "passed over: 1 files .md" in caplog.text


def test_compressed_tars_are_named(tmp_path):
    for name, mode in (("0.tar", "w"), ("1.tar.gz", "w:gz"), ("2.tgz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as tar:
            info = tarfile.TarInfo("a.jpg")
            info.size = len(PHOTO)
            tar.addfile(info, io.BytesIO(PHOTO))
    good, bad = read_all(opened("folder_tars", tmp_path))
    assert list(good) == ["0.tar/a.jpg"] and kinds(bad) == {"compressed archive": 2}


def mask_png(ids):
    return hostile.encoded(Image.fromarray(ids.astype(np.uint8)))


def test_void_ids(tmp_path):
    ids = np.zeros((16, 24), np.uint8)
    ids[2:12, 2:12], ids[3:11, 3:11] = 255, 1
    put(tmp_path / "p/a.jpg", PHOTO)
    put(tmp_path / "m/a.png", mask_png(ids))

    def read(**options):
        example = opened("folder", tmp_path, photos="p", masks="m", **options)[0]
        return dict(zip(example.classes, example.masks.sum((1, 2)).tolist(), strict=True))

    assert read() == {"object": 64} and read(class_names=["cat"]) == {"cat": 64}
    assert read(class_names=["sky", "cat"], void_ids=[255]) == {"sky": 384 - 100, "cat": 64}
    example = opened("folder", tmp_path, photos="p", masks="m", void_ids=[0])[0]
    assert example.masks.sum((1, 2)).tolist() == [64, 36]  # 255 is an object where it is said


def test_ids_that_jpeg_smeared(tmp_path):
    ids = np.zeros((96, 96), np.uint8)
    ids[20:60, 20:60], ids[40:80, 50:90] = 7, 200
    for number, quality in enumerate((30, 70, 90)):
        put(tmp_path / f"p/{number}.jpg", hostile.numbered(1, 96, 96))
        put(tmp_path / f"m/{number}.jpg", hostile.encoded(Image.fromarray(ids), "JPEG", quality=quality))
    saved_again = Image.open(tmp_path / "m/0.jpg")
    put(tmp_path / "p/3.jpg", hostile.numbered(1, 96, 96))
    put(tmp_path / "m/3.png", hostile.encoded(saved_again))
    good, bad = read_all(opened("folder", tmp_path, photos="p", masks="m"))
    assert kinds(bad) == {"smeared ids": 4} and not good


def turned_photo(orientation):
    """24 x 16 as stored, the left top corner white."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    return hostile.encoded(Image.fromarray(pixels), "PNG", exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_boxes_and_depth_turn_with_their_photo(tmp_path, orientation):
    ids = np.zeros((16, 24), np.uint8)
    ids[:8, :8] = 1
    put(tmp_path / "p/a.png", turned_photo(orientation))
    put(tmp_path / "p/metadata.jsonl", b'{"file_name": "a.png", "text": "a", "boxes": [[0, 0, 8, 8]]}')
    put(tmp_path / "m/a.png", mask_png(ids))
    depth = io.BytesIO()
    np.save(depth, ids + 1.0)
    put(tmp_path / "d/a.npy", depth.getvalue())
    spec = dict(photos="p", masks="m", depth="d", captions="metadata")
    example = opened("folder", tmp_path, **spec)[0]
    white = example.image[..., 0] == 255
    assert example.image.shape[:2] == ((24, 16) if orientation > 4 else (16, 24))
    np.testing.assert_array_equal(example.masks[0], white)
    np.testing.assert_array_equal(example.depth == 2, white)
    left, top, right, bottom = map(int, example.extra["boxes"][0])
    boxed = np.zeros(white.shape, bool)
    boxed[top:bottom, left:right] = True
    np.testing.assert_array_equal(boxed, white)
    assert opened("folder", tmp_path, **spec, upright=False)[0].image.shape[:2] == (16, 24)


def test_every_source_of_files_turns_and_may_leave_it(tmp_path):
    table(tmp_path / "t/a.parquet", image=[turned_photo(6)], captions=["a cup"])
    hostile.tar(tmp_path / "w/a.tar", [("a.png", turned_photo(6))])
    for kind, root in (("text_to_image_parquet", "t"), ("folder_tars", "w")):
        for upright, shape in ((True, (24, 16)), (False, (16, 24))):
            good, _ = read_all(opened(kind, tmp_path / root, upright=upright))
            assert next(iter(good.values())).image.shape[:2] == shape
    with pytest.raises(DataError, match="must be true or false"):
        opened("folder_tars", tmp_path / "w", upright="yes")


def test_a_mask_of_the_upright_size_stays(tmp_path):
    ids = np.zeros((24, 16), np.uint8)
    ids[:8, 8:] = 1  # where the white corner is once the photo is turned
    put(tmp_path / "p/a.png", turned_photo(6))
    put(tmp_path / "m/a.png", mask_png(ids))
    example = opened("folder", tmp_path, photos="p", masks="m")[0]
    np.testing.assert_array_equal(example.masks[0], example.image[..., 0] == 255)


def test_what_amg_writes(tmp_path):
    mask = np.zeros((16, 24), bool)
    mask[2:9, 3:12] = True
    one = {"segmentation": rle.encode(mask), "bbox": [3, 2, 9, 7], "area": 63, "predicted_iou": 0.9}
    bare = {"segmentation": {"size": [16, 24], "counts": rle.counts(mask)}}
    for name, content in (("a", [one]), ("b", {"annotations": [bare]}), ("c", {"image": {}, "annotations": [one]})):
        put(tmp_path / f"{name}.jpg", PHOTO)
        put(tmp_path / f"{name}.json", json.dumps(content).encode())
    good, bad = read_all(opened("sa1b", tmp_path, min_area=63))
    assert not bad and all(np.array_equal(e.masks[0], mask) for e in good.values()) and len(good) == 3
    assert good["a.jpg"].extra == {"predicted_iou": [0.9], "boxes": [[3, 2, 12, 9]]} and good["b.jpg"].extra == {}


def test_links_in_a_circle_byte_order_marks_and_accents(tmp_path):
    for folder in "ab":
        put(tmp_path / f"p/{folder}/{folder}.jpg", PHOTO)
    (tmp_path / "p/a/to_b").symlink_to(tmp_path / "p/b")
    (tmp_path / "p/b/to_a").symlink_to(tmp_path / "p/a")
    put(tmp_path / f"p/{unicodedata.normalize('NFD', 'é')}.jpg", PHOTO)
    put(tmp_path / f"p/{unicodedata.normalize('NFC', 'é')}.txt", b"\xef\xbb\xbfone")
    put(tmp_path / "p/a/a.txt", "two".encode("utf-16"))
    put(tmp_path / "p/b/b.txt", b"three")
    source = opened("folder", tmp_path, photos="p", captions="txt")
    good, bad = read_all(source)
    assert sorted(e.caption for e in good.values()) == ["one", "three", "two"] and not bad
    assert source.passed_over["links to folders that were read already"] == 2  # by the photos and by the captions


def test_metadata_as_a_table(tmp_path):
    put(tmp_path / "sub/a.jpg", PHOTO)
    out = io.StringIO()
    csv.writer(out).writerows([["file_name", "text", "year"], ["sub\\a.jpg", "a bus,\nred", "1999"]])
    put(tmp_path / "metadata.csv", b"\xef\xbb\xbf" + out.getvalue().encode())
    example = opened("folder", tmp_path, captions="metadata")[0]
    assert example.caption == "a bus,\nred" and example.extra == {"year": "1999"}


def coco(tmp_path, annotations, sizes=True):
    put(tmp_path / "photos/a.jpg", PHOTO)
    image = {"id": 1, "file_name": "a.jpg"} | ({"height": 16, "width": 24} if sizes else {})
    content = {
        "images": [image, image | {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 5} | a for i, a in enumerate(annotations)],
    }
    put(tmp_path / "labels.json", b"\xef\xbb\xbf" + json.dumps(content).encode())
    return opened("coco_instances", tmp_path, annotations="labels.json", photos="photos")


def test_coco_instances(tmp_path):
    square = np.zeros((16, 24), bool)
    square[2:6, 3:9] = True
    ring = square.copy()
    ring[10:12, 20:24] = True
    source = coco(
        tmp_path,
        [
            {"segmentation": [[3, 2, 9, 2, 9, 6, 3, 6]], "bbox": [3, 2, 6, 4]},
            {"segmentation": [[3, 2, 9, 2, 9, 6, 3, 6], [20, 10, 24, 10, 24, 12, 20, 12]], "category_id": 9},
            {"segmentation": rle.encode(square)},
            {"segmentation": {"size": [16, 24], "counts": rle.counts(square)}, "iscrowd": 1},
            {"segmentation": [], "category_id": 77},
        ],
    )
    example = source[0]
    np.testing.assert_array_equal(example.masks, [square, ring, square])
    assert example.classes == ("cat", "dog", "cat") and example.extra["boxes"][1] == [3, 2, 24, 12]
    assert example.extra["things"] == [True] * 3 and kinds(source.left_out) == {"unknown category": 1}
    assert len(source) == 1 and source.passed_over == {"photos without an object": 1}


@pytest.mark.parametrize("wrong", [None, [], [[1, 2]], [["x"] * 6], {"size": [16, 24], "counts": "zz"}, "text"])
def test_coco_instances_with_a_wrong_segmentation(tmp_path, wrong):
    assert set(kinds(read_all(coco(tmp_path, [{"segmentation": wrong}]))[1])) <= {"bad segmentation", "bad run lengths"}
    assert not read_all(coco(tmp_path, [{"segmentation": wrong}]))[0]
