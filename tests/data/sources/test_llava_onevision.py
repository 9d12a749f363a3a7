"""LLaVA-OneVision in all its forms: good items arrive whole, and each kind of bad one is counted under its own name."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from sgt_jax.data import tasks
from sgt_jax.data.examples import Turn
from sgt_jax.data.pictures import resizing
from sgt_jax.data.sources import open_source
from sgt_jax.data.sources.llava_onevision import LlavaOneVision, LlavaParquet
from sgt_jax.data.sources.reading import json_items
from sgt_jax.errors import DataError
from tests.support import hostile_files as hostile
from tests.support.reading import kinds, read_all

FOLDER = "General/aokvqa_cauldron_llava_format_(x)"


def turns(*texts):
    """human, gpt, human, ..."""
    return [{"from": "gpt" if i % 2 else "human", "value": text} for i, text in enumerate(texts)]


def item(number, image, *texts, **more):
    return {"id": f"a{number}", "dataset": "aokvqa(cauldron,llava_format)", "image": image,
            "conversations": turns(*texts)} | more  # fmt: skip


GOOD = [
    item(0, f"{FOLDER}/p0.jpg", "<image>\nWhat is it?", "A cup."),
    item(1, [f"{FOLDER}/p1.jpg", f"{FOLDER}/p2.jpg"], "<image> or <image>?", "The first.", "Why?", "It is darker."),
    item(2, None, "Two and two?", "Four."),
    item(3, [f"{FOLDER}/p3.jpg", f"{FOLDER}/p4.jpg"], "Look: <image>", "A cup.", "And now <image>?", "Two cups: ünï."),
    item(4, None, "<video>\nWhat happens?", "It grows.", video=[f"clips/f{i}.jpg" for i in (5, 6, 7)]),
    item(5, None, "<image>\nWhat happens?", "It grows.", video="clips"),
]
del GOOD[2]["image"]  # absent and null are the same
BAD = {
    "more tags than pictures": item(10, f"{FOLDER}/p0.jpg", "<image> <image>?", "x"),
    "more pictures than tags": item(11, [f"{FOLDER}/p0.jpg", f"{FOLDER}/p1.jpg"], "<image>?", "x"),
    "no answer": item(12, None, "Hello?"),
    "no conversation": {"id": "13", "image": f"{FOLDER}/p0.jpg", "conversations": []},
    "missing picture": item(14, f"{FOLDER}/nowhere.jpg", "<image>", "x"),
    "path outside": item(15, "../../secret.jpg", "<image>", "x"),
    "bad turn": {"id": "16", "conversations": [{"from": "human", "value": None}, {"from": "gpt", "value": "x"}]},
    "bad item": ["not", "an", "object"],
    "encoded video": item(18, None, "<video>", "x", video="clip.mp4"),
    "unreadable picture": item(19, f"{FOLDER}/empty.jpg", "<image>", "x"),
}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "llava(1)"
    for number in range(5):
        hostile.write(root / "images" / FOLDER / f"p{number}.jpg", hostile.numbered(number))
    for number in (5, 6, 7):
        hostile.macos_companion(hostile.write(root / f"images/clips/f{number}.jpg", hostile.numbered(number)))
    hostile.write(root / "images" / FOLDER / "empty.jpg", b"")
    hostile.write(tmp_path / "secret.jpg", hostile.numbered(9))
    return root


def as_lines(root, items):
    return hostile.write(root / "annotations/all_data.jsonl", hostile.json_lines(items))


def as_list(root, items):
    """As the download script writes it."""
    return hostile.write(root / "annotations/all_data.json", json.dumps(items, indent=2, ensure_ascii=False).encode())


def pictures(example):
    found = example.images or (() if example.image is None else (example.image,))
    return [hostile.number_of(picture) for picture in found]


def assert_good(good):
    assert [pictures(e) for e in good] == [[0], [1, 2], [], [3, 4], [5, 6, 7], [5, 6, 7]]
    assert good[1].turns == (Turn("user", "<image> or <image>?"), Turn("assistant", "The first."),
                             Turn("user", "Why?"), Turn("assistant", "It is darker."))  # fmt: skip
    assert good[3].turns[3].text == "Two cups: ünï."
    assert [e.turns[0].text.count("<image>") for e in good] == [1, 2, 0, 1, 3, 3]
    assert good[0].extra == {"id": "a0", "dataset": "aokvqa(cauldron,llava_format)"}


@pytest.mark.parametrize("write", [as_lines, as_list])
def test_lists_and_lines_with_bad_items_in_between(root, write):
    mixed = [x for pair in zip(GOOD, list(BAD.values())[: len(GOOD)], strict=True) for x in pair]
    mixed += list(BAD.values())[len(GOOD) :]
    path = write(root, mixed)
    source = open_source({"type": "llava_onevision", "root": str(root)})
    good, bad = read_all(source)
    assert_good(list(good.values()))
    assert kinds(bad) == dict.fromkeys(BAD, 1)
    assert len(good) + len(bad) == len(mixed) == len(source)
    assert next(iter(good)) == f"annotations/{path.name}[0]"
    reasons = {b.kind: b.reason for b in bad}
    assert "[1]: 2 <image> tags in human turns for 1 pictures" in reasons["more tags than pictures"]
    assert f"{path.name}[9]" in reasons["missing picture"] and "nowhere.jpg" in reasons["missing picture"]
    assert pickle.loads(pickle.dumps(source))[0].name == source[0].name


def test_lines_that_are_not_utf8_or_not_json_blank_lines_and_a_byte_order_mark(root):
    lines = [b"\xef\xbb\xbf" + json.dumps(GOOD[0]).encode(), b"", b"{broken", hostile.NOT_UTF8_LINE, b"  \t",
             json.dumps(GOOD[2]).encode() + b"\r", b'{"id": "cut", "conversa']  # fmt: skip
    path = hostile.write(root / "annotations/all_data.jsonl", b"\n".join(lines))  # and no newline at the end
    source = LlavaOneVision(root)
    good, bad = read_all(source)
    assert [pictures(e) for e in good.values()] == [[0], []]
    assert kinds(bad) == {"bad json": 2, "not UTF-8": 1} and len(source) == 5
    assert f"{path}, item 2 at byte" in next(b.reason for b in bad if b.kind == "not UTF-8")


def test_one_item_of_a_list_that_is_not_utf8_is_one_bad_item(root):
    data = json.dumps(GOOD, ensure_ascii=False).encode().replace(b"It is darker", b"It is d\xe4rker")
    hostile.write(root / "annotations/all_data.json", data)
    good, bad = read_all(LlavaOneVision(root))
    assert len(good) == len(GOOD) - 1 and kinds(bad) == {"not UTF-8": 1}


@pytest.mark.parametrize("how", ["cut", "malformed", "joined"])
def test_a_broken_list_is_an_error_or_used_up_to_the_break(root, how):
    data = json.dumps(GOOD, indent=2).encode()
    third = data.index(b'"a2"')
    data = {"cut": data[: third + 20], "malformed": data[:third] + b"oops" + data[third:], "joined": data + data}[how]
    path = hostile.write(root / "annotations/all_data.json", data)
    with pytest.raises(DataError, match=rf"{path.name}: the list cannot be read from byte \d+ on"):
        LlavaOneVision(root)
    good, bad = read_all(LlavaOneVision(root, on_bad="skip"))
    assert len(good) == (6 if how == "joined" else 2) and kinds(bad) == {"broken list": 1}


def test_a_list_is_scanned_in_chunks_of_any_size(root, monkeypatch):
    numbers = [10**n for n in range(12)]  # a chunk may end inside, where what is there is a number already
    path = as_list(root, [*numbers, *GOOD, {"id": "long", "conversations": turns("ä" * 3000, "y")}, {}])
    whole = json_items.JsonItems(path, "x")
    expected = [whole[i] for i in range(len(whole))]
    assert len(expected) == len(GOOD) + 2 + len(numbers) and expected[:12] == numbers
    for chunk in (1, 7, 64, 1000):
        monkeypatch.setattr(json_items, "_CHUNK", chunk)
        items = json_items.JsonItems(path, "x")
        assert [items[i] for i in range(len(items))] == expected
        assert items.broken is None


def test_conversations_without_tags_show_their_pictures_first_on_request(root):
    as_lines(root, [item(0, f"{FOLDER}/p3.jpg", "What is it?", "A cup."), GOOD[0]])
    good, bad = read_all(LlavaOneVision(root))
    assert len(good) == 1 and kinds(bad) == {"more pictures than tags": 1} and "untagged='first'" in bad[0].reason
    source = LlavaOneVision(root, untagged="first")
    assert pictures(source[0]) == [3]
    assert [i.type for i in plan_of(source[0])] == ["vit_image", "text", "text"]


def test_frames_are_thinned_evenly(root):
    for number in range(20):
        hostile.write(root / f"images/long/{number:03}.jpg", hostile.numbered(number))
    as_lines(root, [item(0, None, "<video>?", "x", video="long")])
    assert pictures(LlavaOneVision(root, max_frames=3)[0]) == [0, 10, 19]
    assert pictures(LlavaOneVision(root, max_frames=1)[0]) == [0]


def plan_of(example):
    vit_size = resizing.ResizeRule(stride=4, min_size=16, max_size=24)
    return tasks.Understanding(lambda text: text.split(), vit_size)(example, np.random.default_rng(0)).plan


def test_every_form_becomes_a_plan(root):
    """Text alone, several pictures, and tags in several turns: pictures stand where their tags stood."""
    as_lines(root, GOOD)
    source = LlavaOneVision(root)

    def shown(i):
        return [hostile.number_of(x.data) if x.type == "vit_image" else " ".join(x.data) for x in plan_of(source[i])]

    assert shown(2) == ["Two and two?", "Four."]
    assert shown(1) == [1, "or", 2, "?", "The first.", "Why?", "It is darker."]
    assert shown(3) == ["Look:", 3, "A cup.", "And now", 4, "?", "Two cups: ünï."]
    assert [x.loss for x in plan_of(source[3])] == [False, False, True, False, False, False, True]


@pytest.mark.parametrize("name", hostile.ODD)
def test_odd_pictures_are_read(root, name):
    data, width, height, colour = hostile.ODD[name]
    hostile.write(root / "images" / name, data)
    as_lines(root, [item(0, name, "<image>", "x")])
    image = LlavaOneVision(root)[0].image
    assert image.shape == (height, width, 3)
    assert np.abs(image[0, 0].astype(int) - colour).max() <= 6  # JPEG


@pytest.mark.parametrize("name", hostile.UNREADABLE)
def test_unreadable_pictures_are_named(root, name):
    hostile.write(root / "images" / name, hostile.UNREADABLE[name][0])
    as_lines(root, [item(0, name, "<image>", "x")])
    good, bad = read_all(LlavaOneVision(root))
    assert not good and kinds(bad) == {"unreadable picture": 1}
    assert "all_data.jsonl[0]" in bad[0].reason


def test_exif_rotation_is_followed_unless_told_otherwise(root):
    hostile.write(root / "images/turned.jpg", hostile.rotated_jpeg())
    as_lines(root, [item(0, "turned.jpg", "<image>", "x")])
    image = LlavaOneVision(root)[0].image
    assert image.shape == (24, 16, 3) and image[2, 8, 0] < 30 and image[-2, 8, 0] > 225
    assert LlavaOneVision(root, upright=False)[0].image.shape == (16, 24, 3)


def test_thirty_megapixels(root):
    hostile.write(root / "images/large.jpg", hostile.large_jpeg())
    as_lines(root, [item(0, "large.jpg", "<image>", "x")])
    assert LlavaOneVision(root)[0].image.shape == (5000, 6000, 3)


def test_missing_files_and_wrong_options_say_what_to_do(root):
    with pytest.raises(DataError, match="all_data.jsonl nor annotations/all_data.json; name the file"):
        LlavaOneVision(root)
    with pytest.raises(DataError, match="other.json: cannot be read"):
        LlavaOneVision(root, annotations="other.json")
    hostile.write(root / "annotations/all_data.json", b"[]")
    with pytest.raises(DataError, match="no items in annotations/all_data.json"):
        LlavaOneVision(root)
    with pytest.raises(DataError, match="choose 'bad' or 'first'"):
        LlavaOneVision(root, untagged="last")
    hostile.write(root / "annotations/b.json", json.dumps(GOOD[:1]).encode())
    as_lines(root, GOOD)
    several = LlavaOneVision(root, annotations=["annotations/all_data.jsonl", "annotations/b.json"], limit=7)
    assert [several[i].name for i in (5, 6)] == ["annotations/all_data.jsonl[5]", "annotations/b.json[0]"]


def write_parquet(path, rows):
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    schema = pa.schema([("id", pa.string()), ("image", image), ("conversations", pa.list_(turn)),
                        ("data_source", pa.string())])  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=2)


def test_the_parquet_files_of_the_hub(tmp_path):
    def row(number, image, *texts):
        return {"id": str(number), "image": image, "conversations": turns(*texts), "data_source": "aokvqa"}

    one = [
        row(0, {"bytes": hostile.numbered(0), "path": "0.jpg"}, "<image>\nWhat?", "A cup."),
        row(1, None, "Two and two?", "Four."),
        row(2, {"bytes": hostile.numbered(2), "path": None}, "No tag?", "x"),
        row(3, None, "<image>", "x"),
        row(4, {"bytes": None, "path": "elsewhere.jpg"}, "<image>", "x"),
        row(5, {"bytes": hostile.truncated_jpeg(), "path": "5.jpg"}, "<image>", "x"),
        row(6, {"bytes": hostile.numbered(6), "path": "6.jpg"}, "<image>", "six"),
    ]
    folder = tmp_path / "aokvqa(cauldron,llava_format)"
    write_parquet(folder / "train-00000-of-00002.parquet", one)
    write_parquet(folder / "train-00001-of-00002.parquet", [row(7, None, "?", "seven")])
    hostile.macos_companion(folder / "train-00001-of-00002.parquet")
    source = open_source({"type": "llava_onevision_parquet", "root": str(tmp_path)})
    good, bad = read_all(source)
    assert [e.turns[1].text for e in good.values()] == ["A cup.", "Four.", "six", "seven"]
    assert [pictures(e) for e in good.values()] == [[0], [], [6], []]
    assert list(good)[0] == "aokvqa(cauldron,llava_format)/train-00000-of-00002.parquet[0]"
    assert kinds(bad) == {"more pictures than tags": 1, "more tags than pictures": 1, "missing picture": 1,
                          "unreadable picture": 1}  # fmt: skip
    with pytest.raises(DataError, match="python -m sgt_jax ingest"):
        len(source)


def test_parquet_files_that_break_off_or_hold_something_else(tmp_path):
    with pytest.raises(DataError, match="holds no .parquet file"):
        LlavaParquet(tmp_path)
    write_parquet(tmp_path / "a/cut.parquet", [{"id": "0", "conversations": turns("?", "x")}])
    whole = (tmp_path / "a/cut.parquet").read_bytes()
    hostile.write(tmp_path / "a/cut.parquet", whole[: len(whole) // 2])
    good, bad = read_all(LlavaParquet(tmp_path))
    assert not good and kinds(bad) == {"broken parquet": 1} and "cut.parquet" in bad[0].reason
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "a/cut.parquet")
    with pytest.raises(DataError, match="has no column 'conversations' but a"):
        read_all(LlavaParquet(tmp_path))
