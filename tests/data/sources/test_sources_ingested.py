"""Every source through ingest: of four photos, the third a truncated JPEG, three arrive, each exactly once an epoch."""

import json

import grain
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from sgt_jax.data.layouts.bagel import BagelLayout, SpecialTokens
from sgt_jax.data.pictures import rle
from sgt_jax.data.pictures.resizing import ResizeRule
from sgt_jax.data.pipeline import Batches, Component
from sgt_jax.data.sources import open_source
from sgt_jax.data.stored.ingest import ingest
from sgt_jax.data.tasks import Editing
from sgt_jax.data.text.tokenizer import Tokenizer
from tests.support import hostile_files as hostile
from tests.support import tfds_fixtures
from tests.support.hostile_files import number_of, numbered, write
from tests.support.reading import encoded

PHOTOS = [numbered(0), numbered(1), hostile.truncated_jpeg((24, 16)), numbered(3)]
MASK = np.zeros((16, 24), np.uint8)
MASK[4:8] = 1
LABELS = encoded(MASK)
SEGMENT = {
    "segmentation": rle.encode(MASK),
    "bbox": [0, 4, 24, 4],
    "area": 96,
    "predicted_iou": 1.0,
    "stability_score": 1.0,
}
SA1B_JSON = json.dumps({"image": {"image_id": 1}, "annotations": [SEGMENT]}).encode()


def ade20k(root):
    for i, data in enumerate(PHOTOS):
        write(root / f"images/training/ADE_train_{i:08}.jpg", data)
        write(root / f"annotations/training/ADE_train_{i:08}.png", LABELS)
    return {}


def cityscapes(root):
    for i, data in enumerate(PHOTOS):
        write(root / f"leftImg8bit/train/ulm/ulm_{i:06}_000019_leftImg8bit.png", data)
        write(root / f"gtFine/train/ulm/ulm_{i:06}_000019_gtFine_instanceIds.png", encoded(MASK * 26))
    return {}


def pets(root):
    for i, data in enumerate(PHOTOS):
        write(root / f"images/pug_{i}.jpg", data)
        write(root / f"annotations/trimaps/pug_{i}.png", encoded(2 - MASK))
    write(root / "annotations/trainval.txt", b"".join(b"pug_%d 3 2 1\n" % i for i in range(len(PHOTOS))))
    return {}


def sa1b(root):
    for i, data in enumerate(PHOTOS):
        write(root / f"sa_{i}.jpg", data)
        write(root / f"sa_{i}.json", SA1B_JSON)
    return {}


def sa1b_tars(root):
    for first in (0, 2):
        pairs = [
            (f"sa_{i}{end}", data)
            for i in (first, first + 1)
            for end, data in ((".json", SA1B_JSON), (".jpg", PHOTOS[i]))
        ]
        hostile.tar(root / f"sa_{first:06}.tar", pairs)
    return {}


def folder(root):
    for i, data in enumerate(PHOTOS):
        write(root / f"photos/{i}.jpg", data)
        write(root / f"masks/{i}.png", LABELS)
    return {"photos": "photos", "masks": "masks"}


def text_to_image_parquet(root):
    root.mkdir()
    parquet.write_table(pa.table({"image": PHOTOS, "captions": ["a cup"] * 4}), root / "a.parquet", row_group_size=3)
    return {}


def editing_parquet(root):
    root.mkdir()
    table = pa.table({"image_list": [[data, numbered(9)] for data in PHOTOS], "instruction_list": [[["turn it"]]] * 4})
    parquet.write_table(table, root / "a.parquet", row_group_size=3)
    return {}


def tfds(root):
    labels = encoded(np.repeat(MASK[..., None] * 4, 3, -1))
    rows = [{"image": data, "annotation": labels} for data in PHOTOS]
    tfds_fixtures.prepare(root, "scene_parse150", tfds_fixtures.SCENES, rows).rename(root / "prepared")
    return {"root": str(root / "prepared")}


MAKERS = (ade20k, cityscapes, pets, sa1b, sa1b_tars, folder, text_to_image_parquet, editing_parquet, tfds)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_good_records_arrive_once_and_the_bad_one_is_named(make, tmp_path):
    spec = {"type": make.__name__, "root": str(tmp_path / "in")} | make(tmp_path / "in")
    manifest = ingest(spec, tmp_path / "out", on_bad="skip", check="all")
    assert (manifest["records"], manifest["bad"]) == (3, {"unreadable picture": 1})
    source = open_source({"type": "records", "root": str(tmp_path / "out")})
    epochs = [source[i] for i in grain.MapDataset.range(len(source)).seed(1).shuffle().repeat(2)]
    assert [sorted(number_of(e.image) for e in epochs[at : at + 3]) for at in (0, 3)] == [[0, 1, 3]] * 2
    for example in epochs[:3]:
        if make not in (text_to_image_parquet, editing_parquet):
            assert np.array_equal(example.masks.any(0), MASK), "the mask is not this photo's"


def test_editing_parquet_trains(tmp_path):
    """Parquet -> records -> the editing task -> packed rows; the bad series was left out and nothing else is skipped."""
    spec = {"type": "editing_parquet", "root": str(tmp_path / "in")} | editing_parquet(tmp_path / "in")
    ingest(spec, tmp_path / "out", on_bad="skip", check="all")
    source = open_source({"type": "records", "root": str(tmp_path / "out")})
    task = Editing(Tokenizer.nano().encode, ResizeRule(8, 32, 32), ((32, 32),), see=True)
    layout = BagelLayout(
        SpecialTokens(1, 2, 3, 4),
        8,
        8,
        8,
        8,
        ((32, 32),),
        dropout=dict.fromkeys(("text", "vit_image", "vae_image"), 0.0),
    )
    budgets = {"und": 128, "vit": 64, "gen": 64, "labels": 8, "pixels:32x32": 4}
    stream = iter(Batches([Component("edits", source, task, 1.0)], layout, budgets, rows=2, pool_size=4))
    batch, info = next(stream)
    assert info.samples == {"edits": 4} and not info.skipped and info.fill["gen"] == 1.0
    pixels, gen = batch["pixels:32x32"]["pixels"], batch["gen"]
    assert set(gen["noisy"][:, ::16].reshape(-1)) == {0, 1}
    painted = np.take_along_axis(pixels[..., 0, 0, 0], gen["picture:32x32"][:, ::16], 1)[gen["noisy"][:, ::16] == 1]
    assert (painted // 8 == 9).all(), "the target is not the last picture of the series"
