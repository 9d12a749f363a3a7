"""Mutated data sets: a small folder in the true form of every source, and ways to damage its files.

`python -m tests.support.mutations --count 2000 --out docs/results/mutations.json` is the campaign. It may be killed and
started again: what is in the file is not done twice.
"""

import argparse
import datetime
import io
import json
import random
import resource
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from sgt_jax.data.pictures import rle
from sgt_jax.data.sources import open_source
from sgt_jax.data.stored.record import Bad, BadRecord, Record, decode, from_bytes, to_bytes
from sgt_jax.errors import DataError, UserError
from tests.support import hostile_files as hostile

put, photo = hostile.write, hostile.numbered
PHOTOS = 3
SECRET = "secret.jpg"  # beside the data set's folder, never to be read
SECONDS, MEGABYTES = 20, 400  # of processor time, and of more memory, for one damaged data set


def secret() -> bytes:
    """The picture that must not be read: as large as the photos, or a size check would hide that it was, and no flat one.

    Damaged JPEG data can decode to a flat picture of any grey level (pure white, in sa1b/1647), but not to these two colours.
    """
    picture = np.zeros((16, 24, 3), np.uint8)
    picture[:, :8], picture[:, 8:] = (250, 10, 40), (20, 30, 240)
    return hostile.encoded(Image.fromarray(picture), "JPEG", quality=95)


def is_secret(picture: np.ndarray) -> bool:
    """Whether decoded pixels are those of `secret`."""
    return np.array_equal(picture, np.asarray(Image.open(io.BytesIO(secret())).convert("RGB")))


def _ids(number: int) -> bytes:
    ids = np.zeros((16, 24), np.uint8)
    ids[2:9, 3:12] = 1 + number % 2
    return hostile.encoded(Image.fromarray(ids))


def _annotation() -> dict:
    mask = np.zeros((16, 24), bool)
    mask[2:9, 3:12] = True
    return dict(segmentation=rle.encode(mask), bbox=[3, 2, 9, 7], area=63, predicted_iou=0.9, stability_score=0.9)


def _folder(root: Path) -> dict:
    for i in range(PHOTOS):
        put(root / f"p/{i}.jpg", photo(i))
        put(root / f"m/{i}.png", _ids(i))
    lines = [{"file_name": f"{i}.jpg", "text": f"a bus {i}", "boxes": [[1, 2, 3, 4]]} for i in range(PHOTOS)]
    put(root / "p/metadata.jsonl", hostile.json_lines(lines))
    return dict(type="folder", photos="p", masks="m", captions="metadata", class_names=["cat", "dog"])


def _llava(root: Path) -> dict:
    turns = [{"from": "human", "value": "<image>\nwhat ?"}, {"from": "gpt", "value": "a cup"}]
    items = [{"id": str(i), "image": f"{i}.jpg", "conversations": turns} for i in range(PHOTOS)]
    for i in range(PHOTOS):
        put(root / f"images/{i}.jpg", photo(i))
    put(root / "annotations/all_data.json", json.dumps(items, indent=1).encode())
    return dict(type="llava_onevision")


def _sa1b(root: Path) -> dict:
    for i in range(PHOTOS):
        put(root / f"sa_{i}.jpg", photo(i))
        image = dict(image_id=i, width=24, height=16, file_name=f"sa_{i}.jpg")
        put(root / f"sa_{i}.json", json.dumps({"image": image, "annotations": [_annotation()] * 2}).encode())
    return dict(type="sa1b")


def _sa1b_tars(root: Path) -> dict:
    text = json.dumps({"image": {"image_id": 1}, "annotations": [_annotation()]}).encode()
    pairs = [(f"sa_{i}{suffix}", data) for i in range(PHOTOS) for suffix, data in ((".jpg", photo(i)), (".json", text))]
    hostile.tar(root / "sa_000000.tar", pairs)
    return dict(type="sa1b_tars")


def _coco(root: Path) -> dict:
    square = [[3, 2, 12, 2, 12, 9, 3, 9]]
    content = {
        "images": [dict(id=i, file_name=f"{i}.jpg", height=16, width=24) for i in range(PHOTOS)],
        "categories": [dict(id=7, name="cat")],
        "annotations": [dict(id=i, image_id=i, category_id=7, segmentation=square) for i in range(PHOTOS)],
    }
    for i in range(PHOTOS):
        put(root / f"photos/{i}.jpg", photo(i))
    put(root / "labels.json", json.dumps(content).encode())
    return dict(type="coco_instances", annotations="labels.json", photos="photos")


def _panoptic(root: Path) -> dict:
    content = {
        "images": [dict(id=i, file_name=f"{i}.jpg") for i in range(PHOTOS)],
        "categories": [dict(id=7, name="cat", isthing=1)],
        "annotations": [
            dict(image_id=i, file_name=f"{i}.png", segments_info=[dict(id=300, category_id=7)]) for i in range(PHOTOS)
        ],
    }
    ids = np.zeros((16, 24), np.int32)
    ids[2:9, 3:12] = 300
    for i in range(PHOTOS):
        put(root / f"train2017/{i}.jpg", photo(i))
        put(root / f"annotations/panoptic_train2017/{i}.png", hostile.ids_png(ids))
    put(root / "annotations/panoptic_train2017.json", json.dumps(content).encode())
    return dict(type="coco_panoptic")


def _table(root: Path, **columns: list) -> None:
    root.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), root / "a.parquet", compression="none")


def _captions(root: Path) -> dict:
    texts = [json.dumps({"short": f"a bus {i}", "long": f"a red bus {i}"}) for i in range(PHOTOS)]
    _table(root, image=[photo(i) for i in range(PHOTOS)], captions=texts)
    return dict(type="text_to_image_parquet")


def _edits(root: Path) -> dict:
    pictures = [[photo(i), photo(i)] for i in range(PHOTOS)]
    _table(root, image_list=pictures, instruction_list=[[["make it red"]]] * PHOTOS)
    return dict(type="editing_parquet")


def _chats(root: Path) -> dict:
    turns = [{"from": "human", "value": "<image>what ?"}, {"from": "gpt", "value": "a cup"}]
    images = [{"bytes": photo(i), "path": None} for i in range(PHOTOS)]
    _table(root, id=list("abc"), image=images, conversations=[turns] * PHOTOS)
    return dict(type="llava_onevision_parquet")


def _sam_sgt(root: Path) -> dict:
    for i in range(PHOTOS):
        put(root / f"sam_selection/{i}.jpg", photo(i))
        put(root / f"sam_mask/{i}.png", photo(i, form="PNG"))
    put(root / "index.txt", "".join(f"sam_selection/{i}.jpg\n" for i in range(PHOTOS)).encode())
    return dict(type="sam_sgt", index="index.txt")


def _sam_sgt_tars(root: Path) -> dict:
    for kind, suffix, form in (("sam_selection", "jpg", "JPEG"), ("sam_mask", "png", "PNG")):
        members = [(f"{kind}/{i}.{suffix}", photo(i, form=form)) for i in range(PHOTOS)]
        hostile.tar(root / f"{kind}/{kind}-00001.tar", members)
    return dict(type="sam_sgt_tars")


FIXTURES: dict[str, Callable[[Path], dict]] = {
    "folder": _folder, "llava_onevision": _llava, "sa1b": _sa1b, "sa1b_tars": _sa1b_tars, "coco_instances": _coco,
    "coco_panoptic": _panoptic, "text_to_image_parquet": _captions, "editing_parquet": _edits,
    "llava_onevision_parquet": _chats, "sam_sgt": _sam_sgt, "sam_sgt_tars": _sam_sgt_tars,
}  # fmt: skip
WORDS = (
    b"null", b"-1", b"1e999", b"18446744073709551616", b"NaN", b'"\\ud83d"', b"\xff", b"\x00", b"[]", b"{}", b'"', b"../",
    b"../secret.jpg", b"/etc/passwd", b"C:\\a", b"true", b'"None"', b"9" * 5000, b"[" * 3000,
)  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes of a file with one to three random changes: bits, cuts, repeats, zeros, and words that break parsers."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        end = min(at + rng.choice((1, 4, 64)), len(data))
        match rng.randrange(7):
            case 0 if data:
                at %= len(data)
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:at]
            case 2:
                data = data[:at] + data[end:]
            case 3:
                data = data[:end] + data[at:]
            case 4:
                data = data[:at] + bytes(end - at) + data[end:]
            case 5:
                data = data[:at] + rng.choice(WORDS) + data[at:]
            case _:
                data = data[:at] + rng.choice(WORDS) + data[end:]
    return data


def mutate(root: Path, rng: random.Random) -> Path:
    """Damages one file below a folder, or removes it, or names it otherwise; which it was."""
    path = rng.choice(sorted(p for p in root.rglob("*") if p.is_file()))
    match rng.randrange(12):
        case 0:
            path.unlink()
        case 1:
            path.rename(path.with_name(rng.choice(("é", "a b", "x" * 200, "-")) + path.suffix))
        case 2:
            path.unlink()
            path.symlink_to(rng.choice((root, path, root.parent / "nowhere")))
        case _:
            path.write_bytes(damaged(path.read_bytes(), rng))
    return path


def outcome(kind: str, seed: int) -> Counter:
    """Reads one damaged data set by the road of ingest and counts its good and bad records by kind.

    Raises:
      AssertionError: something else than good records and named bad ones came, a record came twice, one was lost whose
        files are whole, a picture outside of the folder was read, or it took too much.
    """
    rng = random.Random(f"{kind}/{seed}")
    with tempfile.TemporaryDirectory() as above:
        put(Path(above) / SECRET, secret())
        root = Path(above) / "data"
        spec = FIXTURES[kind](root) | {"root": str(root)}
        path = mutate(root, rng)
        started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = _read(spec)
        assert time.process_time() - started < SECONDS, "time"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1000, "memory"
        if path.suffix in (".jpg", ".png") or (kind == "sa1b" and path.suffix == ".json"):
            assert found["good"] >= PHOTOS - 1, "records whose files are whole were lost"
    return found


def _read(spec: dict) -> Counter:
    found: Counter = Counter()
    try:
        source = open_source(spec, on_bad="skip")
        shards = source.shards()
    except DataError as error:  # nothing is left of it, or its index cannot be read
        assert str(error) and str(error).encode("utf-8")
        return Counter({"refused on opening": 1})
    names = set()
    for shard in shards:
        try:
            items = list(shard)
        except UserError as error:  # a table without its columns
            assert str(error)
            found["refused on reading"] += 1
            continue
        for item in items:
            found[outcome_of(item, names)] += 1
    return found


def outcome_of(item: Record | Bad, names: set[str]) -> str:
    """ "good", or the kind of a bad record; fails where it is neither, came before, or shows `secret`."""
    if isinstance(item, Bad):
        assert item.name and item.kind and item.reason and item.reason.encode("utf-8")
        return item.kind
    try:
        example = decode(from_bytes(to_bytes(item)))
    except BadRecord as error:
        assert error.kind and str(error).encode("utf-8")
        return error.kind
    assert item.name not in names, f"{item.name} came twice"
    names.add(item.name)
    pictures = [example.image, *example.images]
    assert not any(p is not None and is_secret(p) for p in pictures), "escaped"
    return "good"


def whole(kind: str) -> int:
    """How many good records the undamaged data set gives; all of them, or it is no fixture."""
    with tempfile.TemporaryDirectory() as above:
        root = Path(above) / "data"
        found = _read(FIXTURES[kind](root) | {"root": str(root)})
    assert set(found) == {"good"}, found
    return found["good"]


def main() -> None:
    """The campaign."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--count", type=int, default=2000)
    flags.add_argument("--out", type=Path, default=Path("docs/results/mutations.json"))
    options = flags.parse_args()
    done = json.loads(options.out.read_text()) if options.out.exists() else {"formats": {}}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    for kind in FIXTURES:
        entry = done["formats"].setdefault(kind, {"mutations": 0, "outcomes": {}, "failures": []})
        total, told = Counter(entry["outcomes"]), time.monotonic()
        for seed in range(entry["mutations"], options.count):
            try:
                total.update(outcome(kind, seed))
            except Exception as error:  # noqa: BLE001 (the campaign goes on: this is what it looks for)
                entry["failures"].append({"seed": seed, "error": f"{type(error).__name__}: {error}"[:300]})
            entry |= {"mutations": seed + 1, "outcomes": dict(sorted(total.items())), "commit": commit}
            entry["date"] = str(datetime.date.today())
            if time.monotonic() - told > 20 or seed + 1 == options.count:
                told = time.monotonic()
                done["seeds"] = "FORMAT/0, FORMAT/1, ..."
                options.out.write_text(json.dumps(done, indent=1) + "\n")
        print(kind, entry["mutations"], len(entry["failures"]), entry["outcomes"], flush=True)


if __name__ == "__main__":
    main()
