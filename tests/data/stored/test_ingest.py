"""Ingest loses nothing, whatever happens to it: bad records, full disks, killed workers, killed runs, changed inputs."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest

from sgt_jax.commands import ingest as command
from sgt_jax.data.sources import open_source
from sgt_jax.data.stored import folder as stored_folder
from sgt_jax.data.stored.ingest import ingest
from sgt_jax.data.stored.record import Record, from_bytes, to_bytes
from sgt_jax.errors import DataError
from tests.support import hostile_files as hostile
from tests.support.llava_folder import llava
from tests.support.reading import kinds, read_all


def ids(source):
    good, _ = read_all(source)
    return [e.extra["id"] for e in good.values()]


def stat(folder):
    return {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.glob("part-*")}


def test_what_goes_in_comes_out_in_order_with_counts_lengths_and_hashes(tmp_path):
    spec = llava(tmp_path / "in", 10, bad=(4,))
    manifest = ingest(spec, tmp_path / "out", on_bad="skip", shard_size=4)
    source = open_source({"type": "records", "root": str(tmp_path / "out")})
    original = open_source(spec)
    assert ids(source) == [str(i) for i in range(10) if i != 4] and len(source) == 9
    assert source.record(0) == original.record(0), "not byte for byte"
    assert source.record(8) == original.record(9)
    with pytest.raises(IndexError):
        source[9]
    assert (manifest["records"], manifest["bad"]) == (9, {"missing picture": 1})
    (named,) = manifest["bad_named"]["missing picture"]
    assert "all_data.jsonl[4]" in named["reason"] and "nowhere.jpg" in named["reason"]
    assert [part["records"] for part in manifest["parts"]] == [4, 3, 2]
    assert manifest["bytes"] == sum(p.stat().st_size for p in (tmp_path / "out").glob("*.array_record"))
    assert manifest["lengths"]["picture width"] == {"min": 24, "median": 24, "95%": 24, "max": 24}
    row = stored_folder.lengths(tmp_path / "out", [1]).to_pylist()[1]
    assert (row["name"], row["pictures"], row["written_chars"]) == (
        "annotations/all_data.jsonl[6]", [{"width": 24, "height": 16}], len("A cup."))  # fmt: skip
    assert not list((tmp_path / "out").glob(".*tmp"))


def test_the_first_bad_record_ends_the_run_unless_skipped(tmp_path):
    spec = llava(tmp_path / "in", 4, bad=(2,))
    with pytest.raises(DataError, match=r"all_data.jsonl\[2\].*nowhere.jpg: no such picture"):
        ingest(spec, tmp_path / "out", shard_size=2)
    with pytest.raises(DataError, match="ingest has not finished here; run the same"):
        open_source({"type": "records", "root": str(tmp_path / "out")})
    assert ingest(spec, tmp_path / "out", shard_size=2, on_bad="skip")["records"] == 3


def test_headers_are_always_checked_and_everything_on_request(tmp_path):
    spec = llava(tmp_path / "in", len(hostile.UNREADABLE) + 1)
    for number, (data, _) in enumerate(hostile.UNREADABLE.values()):
        hostile.write(tmp_path / f"in/images/{number}.jpg", data)
    late = sum(header_is_fine for _, header_is_fine in hostile.UNREADABLE.values())
    assert late == 1
    bad = len(hostile.UNREADABLE)
    for check, left in (("headers", bad - late), ("all", bad)):
        manifest = ingest(spec, tmp_path / check, on_bad="skip", check=check)
        assert manifest["bad"] == {"unreadable picture": left}
        assert manifest["records"] == bad + 1 - left


def test_a_second_run_writes_only_what_is_missing_or_damaged(tmp_path):
    spec, out = llava(tmp_path / "in", 12), tmp_path / "out"
    first = ingest(spec, out, shard_size=4)
    before = stat(out)
    assert ingest(spec, out, shard_size=4) == first and stat(out) == before
    # Cut off, gone, and changed within its size (which only the hash shows).
    path = stored_folder.part(out, 0, "array_record")
    path.write_bytes(path.read_bytes()[:-1])
    stored_folder.part(out, 1, "array_record").unlink()
    data = bytearray(stored_folder.part(out, 2, "array_record").read_bytes())
    data[len(data) // 2] ^= 1
    stored_folder.part(out, 2, "array_record").write_bytes(data)
    before = stat(out)
    assert ingest(spec, out, shard_size=4) == first
    changed = {name for name, value in stat(out).items() if value != before.get(name)}
    assert {n for n in changed if n.endswith("array_record")} == {"part-00000.array_record", "part-00001.array_record"}
    assert ingest(spec, out, shard_size=4, verify=True) == first
    assert ids(open_source({"type": "records", "root": str(out)})) == [str(i) for i in range(12)]


@pytest.mark.parametrize("damage", ["missing", "cut", "bytes"])
def test_a_missing_or_damaged_shard_is_one_clear_error(tmp_path, damage):
    ingest(llava(tmp_path / "in", 6), tmp_path / "out", shard_size=3)
    path = stored_folder.part(tmp_path / "out", 1, "array_record")
    data = path.read_bytes()
    path.unlink()
    if damage == "bytes":
        # Inside the pictures of every record: the checksums of the file notice.
        broken = data.replace(hostile.numbered(4)[100:140], b"\0" * 40)
        path.write_bytes(broken if broken != data else data[:1000] + bytes(40000) + data[41000:])
        source = open_source({"type": "records", "root": str(tmp_path / "out")})
        good, bad = read_all(source)
        assert len(good) + len(bad) == 6 and set(kinds(bad)) == {"damaged shard"} and bad
        assert all("ingest --verify" in b.reason for b in bad)
        # The place is that in the file: record 3 of all is record 0 of the second part.
        assert {f"{path}[{i}]" for i in range(3)} >= {b.reason.split(": cannot")[0].split(": ")[-1] for b in bad}
        return
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=rf"{path}: (is missing|has \d+ bytes instead of {len(data)})"):
        open_source({"type": "records", "root": str(tmp_path / "out")})


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    spec = llava(tmp_path / "in", 4)
    ingest(spec, tmp_path / "out")
    other = llava(tmp_path / "other", 4)
    with pytest.raises(DataError, match="was begun with other settings .*source was .*choose another folder"):
        ingest(other, tmp_path / "out")
    with pytest.raises(DataError, match="check was 'headers' and is 'all'"):
        ingest(spec, tmp_path / "out", check="all")
    hostile.write(tmp_path / "foreign/part-00000.array_record", b"tokens")
    with pytest.raises(DataError, match="holds part-\\* files of something else"):
        ingest(spec, tmp_path / "foreign")
    with pytest.raises(DataError, match="mount the bucket"):
        ingest(spec, "gs://bucket/out")
    with pytest.raises(DataError, match="mount the bucket"):
        ingest({"type": "sam_sgt", "root": "gs://bucket/sam"}, tmp_path / "new")
    with pytest.raises(DataError, match="made on the fly"):
        ingest({"type": "scenes"}, tmp_path / "new")


def test_what_was_left_out_on_opening_is_in_the_manifest(tmp_path):
    for number in range(3):
        hostile.write(tmp_path / f"sam/sam_selection/{number}.jpg", hostile.numbered(number))
    hostile.write(tmp_path / "sam/sam_mask/1.png", hostile.numbered(1, form="PNG"))
    manifest = ingest({"type": "sam_sgt", "root": str(tmp_path / "sam")}, tmp_path / "out", on_bad="skip")
    assert (manifest["records"], manifest["bad"]) == (1, {"missing mask": 2})
    example = open_source({"type": "records", "root": str(tmp_path / "out")})[0]
    assert hostile.number_of(example.mask_picture) == hostile.number_of(example.image) == 1


@pytest.mark.parametrize("form", ["sam_sgt", "sam_sgt_tars"])
def test_odd_pictures_come_through_and_unreadable_ones_are_named(tmp_path, form):
    """Tree and tars, read in place and as records: the same good records, and a reason for every other."""
    mask = {
        name: hostile.encoded(hostile.Image.new("RGB", (w, h), (1, 2, 3))) for name, (_, w, h, _) in hostile.ODD.items()
    }
    photos = {name: data for name, (data, *_) in hostile.ODD.items()}
    photos |= {name: data for name, (data, _) in hostile.UNREADABLE.items()}
    photos |= {
        "large.jpg": hostile.large_jpeg() if form == "sam_sgt" else hostile.numbered(4, 60, 50),  # once is slow enough
        "lonely.jpg": hostile.numbered(1),
        "turned.jpg": hostile.rotated_jpeg(),
    }
    mask |= dict.fromkeys([*hostile.UNREADABLE, "turned.jpg"], hostile.numbered(2, form="PNG"))
    mask["large.jpg"] = hostile.encoded(hostile.Image.new("RGB", (60, 50)))
    folders = {"sam_selection": photos, "sam_mask": {f"{Path(n).stem}.png": data for n, data in mask.items()}}
    root = tmp_path / "my_jpgs" / "sam_selection"
    for folder, members in folders.items():
        if form == "sam_sgt":
            for name, data in members.items():
                hostile.macos_companion(hostile.write(root / folder / "a.jpg.d" / name, data))
        else:
            hostile.tar(root / f"{folder}.tar", [(f"{folder}/a.jpg.d/{name}", d) for name, d in members.items()])
    spec = {"type": form, "root": str(root), "on_bad": "skip"}
    good, bad = read_all(open_source(spec))
    assert {Path(name).name for name in good} == {*hostile.ODD, "large.jpg", "turned.jpg"}
    for name, example in good.items():
        if Path(name).name in hostile.ODD:
            _, width, height, colour = hostile.ODD[Path(name).name]
            assert example.image.shape == (height, width, 3)
            assert np.abs(example.image[0, 0].astype(int) - colour).max() <= 6  # JPEG
            assert example.mask_picture[0, 0].tolist() == [1, 2, 3]
    # Photos are turned as viewers do; the masks have the upright size or turn with them.
    assert next(e for n, e in good.items() if n.endswith("turned.jpg")).image.shape == (24, 16, 3)
    counts = kinds(bad)
    assert counts.pop("missing mask") == 1 and sum(counts.values()) == len(hostile.UNREADABLE) == len(bad) - 1
    manifest = ingest(spec, tmp_path / "out", on_bad="skip", check="all")
    again, none = read_all(open_source({"type": "records", "root": str(tmp_path / "out")}))
    assert manifest["bad"] == kinds(bad) and not none
    assert again.keys() == good.keys()
    for name, example in good.items():
        np.testing.assert_array_equal(again[name].image, example.image)
        np.testing.assert_array_equal(again[name].mask_picture, example.mask_picture)


def test_two_workers_write_what_one_process_writes(tmp_path, capsys):
    spec = llava(tmp_path / "in", 30, bad=(7,))
    words = [f"{k}={v}" for k, v in spec.items()]
    status = command.main([*words, str(tmp_path / "two"), "--workers=2", "--shard-size=4", "--on-bad=skip"])
    told = capsys.readouterr()
    assert status == 0, told.err
    assert "29 records" in told.out and "left out: 1 missing picture" in told.out and "nowhere.jpg" in told.out
    assert "part 8 of 8, 30 of 30 records" in told.err
    alone = ingest(spec, tmp_path / "one", shard_size=4, on_bad="skip")
    assert json.loads((tmp_path / "two/manifest.json").read_text()) == alone


def test_errors_of_the_command_are_one_line(tmp_path, capsys):
    spec = llava(tmp_path / "in", 3, bad=(1,))
    words = [f"{k}={v}" for k, v in spec.items()]
    assert command.main([*words, str(tmp_path / "out"), "--workers=2"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") or "\nerror: " in told
    assert "nowhere.jpg" in told and "(--on-bad skip leaves bad records out)" in told
    assert command.main(["type=sam_sgt", "root=gs://bucket/x", str(tmp_path / "out2")]) == 1
    assert "mount the bucket" in capsys.readouterr().err
    assert command.main(["type=sam_sgt", "what", str(tmp_path / "out2")]) == 1
    assert "'what' is not key=value" in capsys.readouterr().err
    assert command.main(["type=nonsense", str(tmp_path / "out2")]) == 1
    assert "unknown source type 'nonsense'" in capsys.readouterr().err


def test_a_source_of_a_config_is_ingested_by_its_name(tmp_path, capsys):
    spec = llava(tmp_path / "in", 3)
    lines = ["from ml_collections import ConfigDict", "def get_config():",
             f"  return ConfigDict(dict(data=dict(sources=dict(asked={spec!r}))))"]  # fmt: skip
    config = hostile.write(tmp_path / "config.py", "\n".join(lines).encode())
    common = [f"--config={config}", "--workers=0"]
    assert command.main([*common, "--source=asked", "limit=2", str(tmp_path / "out")]) == 0
    assert "2 records" in capsys.readouterr().out
    assert command.main([*common, "--source=other", str(tmp_path / "out")]) == 1
    assert "no source 'other'; the config has asked" in capsys.readouterr().err
    assert command.main([*common, str(tmp_path / "out")]) == 1
    assert "--config and --source go together" in capsys.readouterr().err


def test_a_full_disk_is_named_and_finished_parts_are_kept(tmp_path):
    spec, out = llava(tmp_path / "in", 8), tmp_path / "out"
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    hostile.write(tmp_path / "in/images/5.jpg", hostile.encoded(hostile.Image.fromarray(noise), "PNG"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files is refused by the system as a full disk is: by a failing write.
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(DataError, match="part-00001.array_record: cannot be written .*make room"):
            ingest(spec, out, shard_size=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(out.glob(".*tmp")) and not (out / "manifest.json").exists()
    kept = stat(out)
    assert "part-00000.json" in kept and "part-00001.json" not in kept
    assert ingest(spec, out, shard_size=4)["records"] == 8
    assert {k: stat(out)[k] for k in kept} == kept


def test_stored_form_keeps_what_is_set_and_refuses_the_rest():
    record = Record("x", (b"1", b"2"), void_ids=(), segments=((70000, "cat"),), extra={"things": [True]})
    assert from_bytes(to_bytes(record)) == record
    assert from_bytes(to_bytes(Record("x"))).void_ids is None
    with pytest.raises(DataError, match="here: not a record of ours"):
        from_bytes(b"garbage", "here")
