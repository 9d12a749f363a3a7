"""SA-1B, unpacked and in its tars: overlapping run-length masks, and every way in which a pair can be broken."""

import io
import json
import tarfile

import numpy as np
import pytest

from sgt_jax.data.pictures import rle
from sgt_jax.data.sources import open_source
from sgt_jax.data.sources.reading import tars
from sgt_jax.errors import DataError
from tests.support.reading import kinds, photo, put, read_all

# Rows 2 and 5 are 01111000, rows 3 and 4 01001000: a recorded string of COCO's own tools.
GOLDEN = ":44MN020N023f0"


def annotation(mask, number=1):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    return {
        "id": number,
        "segmentation": rle.encode(mask),
        "bbox": box,
        "area": int(mask.sum()),
        "predicted_iou": 0.9 + number / 100,
        "stability_score": 0.95,
        "crop_box": [0, 0, 8, 8],
        "point_coords": [[1.0, 2.0]],
    }


def rectangle(top, left, bottom, right):
    mask = np.zeros((8, 8), bool)
    mask[top:bottom, left:right] = True
    return mask


def pair(number, annotations=None):
    """(photo, json) of sa_NUMBER; three masks that overlap and leave gaps, unless others are given."""
    if annotations is None:
        ring = annotation(rectangle(2, 1, 6, 5), 2) | {"segmentation": {"size": [8, 8], "counts": GOLDEN}, "area": 12}
        annotations = [annotation(rectangle(0, 0, 4, 4), 1), ring, annotation(rectangle(7, 7, 8, 8), 3)]
    image = {"image_id": number, "width": 8, "height": 8, "file_name": f"sa_{number}.jpg"}
    return photo(number, 8, 8), json.dumps({"image": image, "annotations": annotations}).encode()


def broken_pairs():
    """{stem: ((photo or None, json or None), kind of bad)}."""
    image, text = pair(9)
    short = json.loads(text)
    short["annotations"][0]["segmentation"]["counts"] = [10, 10]
    other = json.loads(text)
    del other["annotations"][1]["segmentation"]
    small = photo(9, 4, 8)
    return {
        "sa_11": ((image, None), "missing json"),
        "sa_12": ((None, text), "missing picture"),
        "sa_13": ((image[:150], text), "unreadable picture"),
        "sa_14": ((image, text[:-20]), "bad json"),
        "sa_15": ((image, text.replace(b"sa_9", b"sa_\xff")), "bad json"),
        "sa_16": ((image, json.dumps(other).encode()), "bad json"),
        "sa_17": ((image, json.dumps(short).encode()), "bad run lengths"),
        "sa_18": ((small, text), "mask size"),
        "sa_19": ((image, b"7"), "bad json"),
    }


def expected_kinds():
    return {kind: [k for _, k in broken_pairs().values()].count(kind) for _, kind in broken_pairs().values()}


def check_good(example):
    assert example.masks.shape == (3, 8, 8) and example.classes is None
    assert example.masks[1, 2].tolist() == [False] + [True] * 4 + [False] * 3
    assert example.masks[1, 3].tolist() == [False, True, False, False, True] + [False] * 3
    assert (example.masks[0] & example.masks[1]).any() and not example.masks.any(0).all()
    assert [tuple(box) for box in example.extra["boxes"]] == [(0, 0, 4, 4), (1, 2, 5, 6), (7, 7, 8, 8)]
    assert np.allclose(example.extra["predicted_iou"], [0.91, 0.92, 0.93])
    assert len(example.extra["stability_score"]) == 3


def test_unpacked_with_broken_pairs_between(tmp_path):
    root = tmp_path / "json" / "sa_jpg"
    for number, folder, suffix in ((1, "sa_000000", ".jpg"), (20, "sa_000000", ".JPG"), (3, "deep/sa_000001", ".jpeg")):
        image, text = pair(number)
        put(root / folder / f"sa_{number}{suffix}", image)
        put(root / folder / f"sa_{number}.json", text)
    for stem, ((image, text), _) in broken_pairs().items():
        for data, suffix in ((image, ".jpg"), (text, ".json")):
            if data is not None:
                put(root / "sa_000000" / (stem + suffix), data)
    put(root / "sa_000000/._sa_1.json", "resource fork")
    good, bad = read_all(open_source({"type": "sa1b", "root": str(root)}))
    assert list(good) == ["deep/sa_000001/sa_3.jpeg", "sa_000000/sa_1.jpg", "sa_000000/sa_20.JPG"]
    assert kinds(bad) == expected_kinds()
    assert [e.extra["image_id"] for e in good.values()] == [3, 1, 20]
    for example in good.values():
        check_good(example)
    missing = next(b.reason for b in bad if b.kind == "missing json")
    assert "'sa_000000/sa_11' has no json, expected" in missing and missing.endswith("sa_000000/sa_11.json")


def test_mask_choice_and_no_masks(tmp_path):
    for number, annotations in ((1, None), (2, [])):
        image, text = pair(number, annotations)
        put(tmp_path / f"sa_{number}.jpg", image)
        put(tmp_path / f"sa_{number}.json", text)
    source = open_source({"type": "sa1b", "root": str(tmp_path), "min_area": 2})
    assert source[0].masks.sum((1, 2)).tolist() == [16, 12] and len(source[0].extra["boxes"]) == 2
    source = open_source({"type": "sa1b", "root": str(tmp_path), "max_masks": 1})
    assert source[0].masks.sum((1, 2)).tolist() == [16]
    # A photo of which no mask is known is a good record: other proxies can use it.
    assert source[1].masks is None and source[1].image.shape == (8, 8, 3)


def tar_of(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)


def test_tars_in_any_order_with_hostile_members(tmp_path):
    (image1, text1), (image2, text2), (image3, text3) = pair(1), pair(2), pair(3)
    tar_of(
        tmp_path / "sa_000000.tar",
        [
            ("./", None),
            ("./sa_2.json", text2),
            ("./sa_1.jpg", image1),
            ("./._sa_1.jpg", b"resource fork"),
            ("../../etc/sa_7.jpg", image1),
            ("/sa_8.jpg", image1),
            ("./sa_6.jpg", "sa_1.jpg"),
            ("./sa_2.JPG", image2),
            ("./sa_1.json", text1),
            ("./sa_1.json", text2),
            ("./sa_5.jpg", b""),
            ("./sa_5.json", text1),
        ],
    )
    broken = [(s + x, d) for s, (found, _) in broken_pairs().items() for d, x in zip(found, (".jpg", ".json")) if d]
    tar_of(tmp_path / "more/sa_000001.tar", [("sa_3.jpg", image3), *broken, ("sa_3.json", text3)])
    put(tmp_path / "._sa_000000.tar", "resource fork")
    source = open_source({"type": "sa1b_tars", "root": str(tmp_path)})
    assert [shard.name for shard in source.shards()] == ["more/sa_000001", "sa_000000"]
    good, bad = read_all(source)
    assert list(good) == ["more/sa_000001.tar/sa_3.jpg", "sa_000000.tar/sa_1.jpg", "sa_000000.tar/sa_2.JPG"]
    assert [e.extra["image_id"] for e in good.values()] == [3, 1, 2]
    for example in good.values():
        check_good(example)
    own = {"unsafe member": 2, "link in archive": 1, "duplicate member": 1, "unreadable member": 1}
    assert kinds(bad) == expected_kinds() | own


def test_a_tar_that_breaks_off_gives_what_it_has(tmp_path):
    members = [(f"sa_{n}{suffix}", data) for n in (1, 2, 3) for data, suffix in zip(pair(n), (".jpg", ".json"))]
    tar_of(tmp_path / "whole.tar", members)
    data = (tmp_path / "whole.tar").read_bytes()
    archive = tars.scan(tmp_path / "whole.tar")
    (tmp_path / "whole.tar").unlink()
    put(tmp_path / "cut.tar", data[: archive.members["sa_3.jpg"].offset + 100])
    good, bad = read_all(open_source({"type": "sa1b_tars", "root": str(tmp_path)}))
    assert list(good) == ["cut.tar/sa_1.jpg", "cut.tar/sa_2.jpg"]
    assert kinds(bad) == {"broken archive": 1} and "cut.tar: breaks off after 4 files" in bad[0].reason
    put(tmp_path / "cut.tar", b"not a tar" * 1000)
    good, bad = read_all(open_source({"type": "sa1b_tars", "root": str(tmp_path)}))
    assert not good and kinds(bad) == {"broken archive": 1} and "no plain tar (invalid header)" in bad[0].reason


def test_training_on_tars_says_to_ingest(tmp_path):
    tar_of(tmp_path / "sa_000000.tar", [])
    source = open_source({"type": "sa1b_tars", "root": str(tmp_path)})
    for ask in (lambda: len(source), lambda: source[0]):
        with pytest.raises(DataError, match="can only be read in order.*sgt_jax ingest"):
            ask()
    with pytest.raises(DataError, match="holds no .tar"):
        open_source(
            {"type": "sa1b_tars", "root": str(tmp_path / "more")} | {"root": str(put(tmp_path / "a/b", "").parent)}
        )
