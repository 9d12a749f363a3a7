"""Folders of pictures with captions, masks, depth or a right picture beside them, and what may be wrong with those."""

import json

import numpy as np
import pytest
from PIL import Image

from sgt_jax.data.sources import open_source
from sgt_jax.data.sources.folder import npy
from sgt_jax.errors import DataError
from tests.support import hostile_files as hostile
from tests.support.reading import encoded, kinds, photo, put, read_all


def folder(root, **options):
    return open_source({"type": "folder", "root": str(root), **options})


def test_pictures_alone_of_every_kind(tmp_path):
    exif = Image.new("RGB", (12, 8)).getexif()
    exif[0x0112] = 6
    pictures = {
        "a.jpg/b.JPG": photo(1),
        "alpha.png": encoded(Image.new("RGBA", (12, 8), (200, 0, 0, 0))),
        "cmyk.jpeg": encoded(Image.new("CMYK", (12, 8)), "JPEG"),
        "deep.png": encoded(np.full((8, 12), 40000, np.uint16)),
        "line.png": encoded(Image.new("RGB", (300, 1), (9, 9, 9))),
        "palette.png": encoded(Image.new("P", (12, 8))),
        "turned.jpg": encoded(Image.new("RGB", (12, 8)), "JPEG", exif=exif),
        "web.webp": encoded(Image.new("RGB", (12, 8)), "WEBP"),
    }
    for name, data in pictures.items():
        put(tmp_path / name, data)
    put(tmp_path / "._a.jpg", "resource fork")
    put(tmp_path / "notes.txt", "no picture")
    put(tmp_path / "truncated.jpg", photo()[:200])
    good, bad = read_all(folder(tmp_path))
    assert sorted(good) == sorted(pictures) and kinds(bad) == {"unreadable picture": 1}
    assert (good["alpha.png"].image == 255).all() and (good["deep.png"].image == 40000 >> 8).all()
    assert good["line.png"].image.shape == (1, 300, 3) and good["turned.jpg"].image.shape == (12, 8, 3)
    assert read_all(folder(tmp_path, upright=False))[0]["turned.jpg"].image.shape == (8, 12, 3)


def test_hostile_pictures(tmp_path):
    for name, (data, *_) in (hostile.ODD | hostile.UNREADABLE).items():
        put(tmp_path / name, data)
    good, bad = read_all(folder(tmp_path))
    assert sorted(good) == sorted(hostile.ODD)
    for name, (_, width, height, colour) in hostile.ODD.items():
        picture = good[name].image
        assert picture.shape == (height, width, 3) and np.abs(picture[0, 0].astype(int) - colour).max() <= 4, name
    assert kinds(bad) == {"unreadable picture": len(hostile.UNREADABLE)}
    assert all(any(name in b.reason for b in bad) for name in hostile.UNREADABLE)


def test_a_photo_of_30_megapixels_is_no_bomb(tmp_path):
    put(tmp_path / "large.jpg", hostile.large_jpeg())
    assert folder(tmp_path)[0].image.shape == (5000, 6000, 3)


def test_links_are_followed_but_not_in_circles(tmp_path):
    put(tmp_path / "data/a.jpg", photo())
    put(tmp_path / "elsewhere/b.jpg", photo())
    (tmp_path / "data/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/sub").mkdir()
    (tmp_path / "data/sub/up").symlink_to(tmp_path / "data")
    assert sorted(read_all(folder(tmp_path / "data"))[0]) == ["a.jpg", "more/b.jpg"]


def test_captions_in_text_files(tmp_path):
    for name in ("a", "b", "c", "d", "e.f"):
        put(tmp_path / f"pictures/{name}.jpg", photo())
    for name, text in {
        "a": b" a red bus\n",
        "b": b"caf\xe9",
        "c": b" \n",
        "e.f": "Stra\u00dfe".encode(),
        "g": b"lonely",
    }.items():
        put(tmp_path / f"pictures/{name}.TXT", text)
    good, bad = read_all(folder(tmp_path, photos="pictures", captions="txt"))
    assert {name: e.caption for name, e in good.items()} == {
        "pictures/a.jpg": "a red bus",
        "pictures/e.f.jpg": "Stra\u00dfe",
    }
    assert kinds(bad) == {"bad caption": 1, "missing caption": 2, "missing picture": 1}


def test_tars_of_pictures(tmp_path):
    members = [("x/a.txt", b"a bus"), ("x/b.JPG", photo(90)), ("x/a.jpg", photo(30)), ("x/._a.jpg", b"fork"),
               ("x/c.png", photo()[:200]), ("x/c.txt", b"a tram"), ("x/a.cls", b"3"), ("../d.jpg", photo())]  # fmt: skip
    hostile.tar(tmp_path / "shards/000.tar", members)
    source = open_source({"type": "folder_tars", "root": str(tmp_path)})
    good, bad = read_all(source)
    assert list(good) == ["shards/000.tar/x/a.jpg", "shards/000.tar/x/b.JPG"]
    assert abs(int(good["shards/000.tar/x/b.JPG"].image[0, 0, 0]) - 90) < 5
    assert kinds(bad) == {"unsafe member": 1, "unreadable picture": 1}
    good, bad = read_all(open_source({"type": "folder_tars", "root": str(tmp_path), "captions": "txt"}))
    assert {name: e.caption for name, e in good.items()} == {"shards/000.tar/x/a.jpg": "a bus"}
    assert kinds(bad) == {"unsafe member": 1, "unreadable picture": 1, "missing caption": 1}


def test_captions_in_metadata(tmp_path):
    for name in ("a.jpg", "sub/b.PNG", "c.jpg", "d.jpg", "n.jpg"):
        put(tmp_path / name, photo())
    lines = [
        json.dumps({"file_name": "a.jpg", "text": "a bus", "source": 7}),
        json.dumps({"file_name": "sub/b.PNG", "caption": "a tram"}),
        "",
        json.dumps({"file_name": "c.jpg", "text": None}),
        json.dumps({"file_name": "a.jpg", "text": "again"}),
        json.dumps({"file_name": "gone.jpg", "text": "gone"}),
        json.dumps({"text": "no name"}),
        "[1]",
        "{",
    ]
    put(tmp_path / "metadata.jsonl", "\n".join(lines).encode() + b'\n{"file_name": "n.jpg", "text": "\xff"}\n')
    good, bad = read_all(folder(tmp_path, captions="metadata"))
    assert {name: e.caption for name, e in good.items()} == {"a.jpg": "a bus", "sub/b.PNG": "a tram"}
    assert good["a.jpg"].extra == {"source": 7}
    assert kinds(bad) == {"missing caption": 3, "duplicate line": 1, "missing picture": 1, "bad line": 4}
    assert any("metadata.jsonl, line 9: not a JSON object" in b.reason for b in bad)
    with pytest.raises(DataError, match=r"metadata.jsonl: cannot be read .* captions='txt'"):
        folder(tmp_path / "sub", captions="metadata")


def test_masks_of_ids_and_as_pictures(tmp_path):
    ids = np.zeros((8, 12), np.uint16)
    ids[0], ids[1] = 1, 2
    put(tmp_path / "photos/x.jpg/a.jpg", photo())
    put(tmp_path / "masks/x.jpg/a.png", encoded(ids))
    two = {"photos": "photos", "masks": "masks"}
    example = folder(tmp_path, **two)[0]
    assert example.classes == ("object", "object") and example.masks.sum() == 24
    example = folder(tmp_path, **two, class_names=["cat", "dog"])[0]
    assert example.classes == ("cat", "dog") and example.extra["class_names"] == ["cat", "dog"]
    assert kinds(read_all(folder(tmp_path, **two, class_names=["cat"]))[1]) == {"unknown label": 1}
    put(tmp_path / "masks/x.jpg/a.png", encoded(Image.new("RGB", (12, 8), (255, 0, 9))))
    example = folder(tmp_path, **two, mask_kind="picture")[0]
    assert example.masks is None and example.mask_picture[0, 0].tolist() == [255, 0, 9]


def test_ids_above_65535(tmp_path):
    colours = np.zeros((8, 12, 3), np.uint8)
    colours[:4] = (5, 6, 7)
    put(tmp_path / "photos/a.jpg", photo())
    put(tmp_path / "masks/a.png", encoded(colours))
    record = folder(tmp_path, photos="photos", masks="masks").record(0)
    assert record.segments == ((5 + 256 * 6 + 65536 * 7, "object"),)


def test_depth_maps_in_metres_and_millimetres(tmp_path):
    metres = np.linspace(0.5, 8, 96, dtype=np.float32).reshape(8, 12)
    metres[0, 0], metres[0, 1] = np.inf, 0
    for name in ("a", "b", "c", "d"):
        put(tmp_path / f"rgb/{name}.png", photo(form="PNG"))
    put(tmp_path / "depth/a.npy", npy(metres[..., None].astype(np.float16)))
    put(tmp_path / "depth/b.npy", npy(metres)[:-30])
    put(tmp_path / "depth/c.npy", npy(np.zeros((8, 12, 3), np.float32)))
    good, bad = read_all(folder(tmp_path, photos="rgb", depth="depth"))
    assert kinds(bad) == {"unreadable depth map": 2, "missing depth map": 1}
    depth = good["rgb/a.png"].depth
    assert depth.dtype == np.float32 and np.isnan(depth).sum() == 2
    assert np.allclose(depth[1:], metres[1:], rtol=1e-3)  # float16 on disk
    millimetres = np.where(np.isfinite(metres), metres * 1000, 0).astype(np.uint16)
    put(tmp_path / "millimetres/d.png", encoded(millimetres))
    depth = folder(tmp_path, photos="rgb", depth="millimetres", depth_unit=0.001)[3].depth
    assert np.isnan(depth).sum() == 2 and np.nanmax(np.abs(depth - metres)[1:]) <= 0.001


def test_a_pickled_npy_is_refused(tmp_path):
    put(tmp_path / "rgb/a.png", photo(form="PNG"))
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth/a.npy", np.array([[{}]], object), allow_pickle=True)
    assert kinds(read_all(folder(tmp_path, photos="rgb", depth="depth"))[1]) == {"unreadable depth map": 1}


def test_stereo_pairs(tmp_path):
    put(tmp_path / "left/scene/0.png", photo(1, form="PNG"))
    put(tmp_path / "right/scene/0.png", photo(2, form="PNG"))
    example = folder(tmp_path, photos="left", right="right")[0]
    assert [int(p[0, 0, 0]) for p in example.images] == [1, 2] and example.image[0, 0, 0] == 1


def test_options_that_cannot_be(tmp_path):
    for options, problem in [
        ({"captions": "csv"}, "captions='csv' must be one of"),
        ({"mask_kind": "rgb"}, "mask_kind='rgb'"),
        ({"photos": "nowhere"}, "nowhere: no such folder"),
        ({}, "holds no pictures"),
    ]:
        with pytest.raises(DataError, match=problem):
            folder(tmp_path, **options)
