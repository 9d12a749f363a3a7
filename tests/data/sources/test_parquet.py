"""Text-to-image and editing parquet: row groups are shards, and broken rows, groups and files are counted."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from sgt_jax.data.sources import open_source
from sgt_jax.errors import DataError
from tests.support.reading import kinds, photo, put, read_all


def write(path, group=2, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path, row_group_size=group)
    return path


def opened(kind, root, **options):
    return open_source({"type": kind, "root": str(root), **options})


def test_text_to_image_rows_in_row_groups(tmp_path):
    captions = [
        json.dumps({"short": "a bus", "long": "a red bus in the rain"}),
        "a tram",
        '{"short": "broken',
        json.dumps({"short": " ", "score": 3}),
        "a car",
        None,
    ]
    images = [photo(0), photo(40), photo(2), photo(3), None, photo(5)]
    write(tmp_path / "a/part.0.PARQUET", image=images, captions=captions)
    write(tmp_path / "b.parquet", image=[photo(80), photo(90)[:200]], captions=["a boat", "a ship"], id=[1, 2])
    put(tmp_path / "._b.parquet", "resource fork")
    source = opened("text_to_image_parquet", tmp_path)
    assert [shard.name for shard in source.shards()] == ["a/part.0-0-2", "b-0"]
    assert [shard.count for shard in source.shards()] == [6, 2]
    assert [shard.count for shard in source.shards(size=4)] == [4, 2, 2]
    good, bad = read_all(source)
    assert {name: e.caption for name, e in good.items()} == {
        "a/part.0.PARQUET/0": "a bus",
        "a/part.0.PARQUET/1": "a tram",
        "b.parquet/0": "a boat",
    }
    assert list(good["a/part.0.PARQUET/0"].extra["captions"]) == ["a bus", "a red bus in the rain"]
    assert abs(int(good["b.parquet/0"].image[0, 0, 0]) - 80) < 4
    assert kinds(bad) == {"bad json": 1, "missing text": 2, "missing picture": 1, "unreadable picture": 1}
    assert {b.name for b in bad if b.kind == "missing picture"} == {"a/part.0.PARQUET/4"}


def test_hub_pictures_other_columns_and_lists_of_captions(tmp_path):
    cells = [{"bytes": photo(60), "path": "x.jpg"}, {"bytes": None, "path": "y.jpg"}]
    write(tmp_path / "train.parquet", jpg=cells, text=[["one", "two"], ["three"]])
    source = opened("text_to_image_parquet", tmp_path, image="jpg", captions="text")
    good, bad = read_all(source)
    assert list(good["train.parquet/0"].extra["captions"]) == ["one", "two"] and kinds(bad) == {"missing picture": 1}
    with pytest.raises(DataError, match=r"train.parquet: has no column \['image', 'captions'\]; it has jpg, text"):
        opened("text_to_image_parquet", tmp_path).shards()
    with pytest.raises(DataError, match="holds no .parquet"):
        opened("text_to_image_parquet", put(tmp_path / "other/x.txt", "").parent)


def test_a_cut_off_file_and_a_broken_row_group_cost_only_themselves(tmp_path):
    columns = {"image": [photo(n) for n in range(6)], "captions": [f"number {n}" for n in range(6)]}
    data = write(tmp_path / "whole.parquet", **columns).read_bytes()
    put(tmp_path / "cut.parquet", data[:-300])
    metadata = parquet.ParquetFile(tmp_path / "whole.parquet").metadata
    column = metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    spoiled = bytearray(data)
    spoiled[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    put(tmp_path / "spoiled.parquet", bytes(spoiled))
    good, bad = read_all(opened("text_to_image_parquet", tmp_path))
    assert sorted(good) == [f"spoiled.parquet/{n}" for n in (0, 1, 4, 5)] + [f"whole.parquet/{n}" for n in range(6)]
    assert good["spoiled.parquet/4"].caption == "number 4"
    assert kinds(bad) == {"broken file": 2} and any("row group 1 cannot be read after 0 rows" in b.reason for b in bad)


def test_editing_series(tmp_path):
    write(
        tmp_path / "edits.parquet",
        image_list=[[photo(10), photo(60), photo(110)], [photo(1), photo(2)], [photo(1)], [photo(1), b""], None],
        instruction_list=[
            [["make it red", "paint it red"], ["remove it"]],
            [["turn"], ["turn again"]],
            [],
            [["grow"]],
            [["x"]],
        ],
    )
    good, bad = read_all(opened("editing_parquet", tmp_path))
    assert list(good) == ["edits.parquet/0"] and kinds(bad) == {"picture count": 3, "missing picture": 1}
    example = good["edits.parquet/0"]
    assert [int(np.round(p[0, 0, 0], -1)) for p in example.images] == [10, 60, 110]
    assert [list(step) for step in example.extra["instructions"]] == [["make it red", "paint it red"], ["remove it"]]


def test_editing_with_a_column_for_each_picture(tmp_path):
    columns = {"before": [photo(10)], "after": [photo(60)], "edit_prompt": ["make it red"]}
    write(tmp_path / "edits.parquet", **columns)
    source = opened("editing_parquet", tmp_path, pictures=["before", "after"], instructions="edit_prompt")
    example = read_all(source)[0]["edits.parquet/0"]
    assert len(example.images) == 2 and [list(step) for step in example.extra["instructions"]] == [["make it red"]]
