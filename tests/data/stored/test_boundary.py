"""Whatever goes wrong in reading one record is one named bad record; faults of ours and interrupts are not."""

import json
import os

import numpy as np
import pytest

from sgt_jax.data import proxies
from sgt_jax.data.examples import Example
from sgt_jax.data.pipeline import Batches, Component
from sgt_jax.data.sources import open_source, records
from sgt_jax.data.sources.folder import PlainFolder
from sgt_jax.data.stored.ingest import ingest
from sgt_jax.data.stored.record import Bad, BadRecord
from sgt_jax.data.tasks import make_task
from sgt_jax.errors import DataError, UserError
from tests.data.test_pipeline import BUDGETS, LAYOUT, answer
from tests.support import hostile_files as hostile
from tests.support import mutations
from tests.support.reading import kinds, read_all

PHOTO = hostile.numbered(3)


def lines(*extra):
    return b"\n".join(json.dumps({"file_name": f"{i}.jpg", "text": "a bus"} | e).encode() for i, e in enumerate(extra))


def folder(tmp_path, *extra):
    for i in range(len(extra)):
        hostile.write(tmp_path / f"in/{i}.jpg", PHOTO)
    hostile.write(tmp_path / "in/metadata.jsonl", lines(*extra))
    return dict(type="folder", root=str(tmp_path / "in"), captions="metadata")


HARM = {
    "half a pair": ({"text": "a \ud83d bus"}, "bad text"),
    "half a pair deep in extra": ({"more": [{"a": "\udc00"}]}, "bad text"),
    "half a pair as a key": ({"\ud83d": 1}, "bad text"),
    "65 bits": ({"number": 2**64}, "bad number"),
    "boxes of three": ({"boxes": [[1, 2, 3]]}, "bad boxes"),
    "boxes of text": ({"boxes": "all"}, "bad boxes"),
    "things of text": ({"things": "all"}, "bad things"),
}


def test_texts_and_numbers_are_checked_where_they_enter(tmp_path):
    spec = folder(tmp_path, {}, *(harm for harm, _ in HARM.values()), {"boxes": None}, {"score": 2**63})
    os.close(os.open(os.fsencode(tmp_path / "in") + b"/caf\xe9.jpg", os.O_CREAT | os.O_WRONLY))
    for check in ("headers", "all"):
        manifest = ingest(spec, tmp_path / check, on_bad="skip", check=check)
        assert manifest["records"] == 2
        counted = dict(manifest["bad"])
        assert counted.pop("missing caption") == 1  # the file whose name is not UTF-8 has no line
        assert counted == {"bad text": 3, "bad number": 2, "bad boxes": 2, "bad things": 1}
        for kind, named in manifest["bad_named"].items():
            for bad in named:
                assert bad["reason"].encode("utf-8"), kind  # printable
    good, bad = read_all(open_source(spec))
    assert len(good) == 2 and len(bad) == 9
    hostile.write(tmp_path / "plain/a.jpg", PHOTO)
    with open(os.fsencode(tmp_path / "plain") + b"/caf\xe9.jpg", "wb") as file:
        file.write(PHOTO)
    assert kinds(read_all(open_source(dict(type="folder", root=str(tmp_path / "plain"))))[1]) == {"bad text": 1}


class Failing(PlainFolder):
    """A folder whose reading raises."""

    error: BaseException = ValueError("x")

    def record(self, i):
        raise self.error


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError("deep"), AttributeError("x"), OSError("gone"), ValueError("x")]
)
def test_any_exception_of_reading_is_one_bad_record(tmp_path, error):
    source = Failing(folder(tmp_path, {})["root"])
    source.error = error
    (bad,) = [item for shard in source.shards() for item in shard]
    assert isinstance(bad, Bad) and "Failing" in bad.name and str(error) in bad.reason


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError(24, "Too many open files")])
def test_what_is_not_the_records_fault_passes_through(tmp_path, error):
    source = Failing(folder(tmp_path, {})["root"])
    source.error = error
    with pytest.raises((KeyboardInterrupt, MemoryError, UserError)) as raised:
        source[0]
    assert not isinstance(raised.value, DataError)


def test_a_fault_of_a_proxy_is_a_traceback_also_where_bad_records_are_skipped(tmp_path, monkeypatch):
    planted = proxies.PROXIES["edges"]._replace(make=lambda *_: 1 + "x")
    monkeypatch.setitem(proxies.PROXIES, "edges", planted)
    source = open_source(folder(tmp_path, {}, {}))
    spec = dict(task="proxy", proxy="edges", options={})
    task = make_task(spec, encode=lambda text: [5], vit_size=None, canvases=((8, 8),))
    batches = Batches([Component("e", source, task, 1.0)], LAYOUT, BUDGETS, rows=1, pool_size=2, on_bad="skip")
    with pytest.raises(TypeError):
        next(iter(batches))


class Dead:
    """A source of n records of which none, or only the first `good`, can be read."""

    def __init__(self, n, good=0):
        self.n, self.good = n, good

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i >= self.good:
            raise DataError(f"number {i}: no such picture")
        return Example(str(i), image=np.zeros((8, 8, 3), np.uint8))


def run(batches, parts, rows=2):
    stream = iter(Batches(parts, LAYOUT, BUDGETS, rows=rows, seed=5, pool_size=4, on_bad="skip"))
    return [next(stream)[1] for _ in range(batches)]


@pytest.mark.parametrize("n", [3, 50, 1000])
def test_a_dead_source_among_good_ones_ends_the_run_and_is_named(n):
    parts = [Component("dead", Dead(n), answer, 0.1), Component("alive", Dead(40, 40), answer, 0.9)]
    with pytest.raises(DataError, match="component 'dead': .* records in a row could not be used.*no such picture"):
        run(700, parts)


def test_a_source_with_some_good_records_does_not_end_it():
    parts = [Component("poor", Dead(3, 1), answer, 0.5), Component("alive", Dead(40, 40), answer, 0.5)]
    infos = run(60, parts, rows=3)
    assert sum(info.samples.get("poor", 0) for info in infos) > 20 and sum(sum(i.skipped.values()) for i in infos) > 20


@pytest.mark.parametrize("kind", ["records", "llava_onevision", "sam_sgt_tars"])
def test_data_that_change_under_a_running_job_are_named(tmp_path, kind):
    if kind == "records":
        ingest(folder(tmp_path, {}, {}), tmp_path / "out")
        root, changed = tmp_path / "out", tmp_path / "out/part-00000.array_record"
    else:
        mutations.FIXTURES[kind](tmp_path)
        root, changed = tmp_path, next(p for p in sorted(tmp_path.rglob("*")) if p.suffix in (".json", ".tar"))
    source = open_source({"type": kind, "root": str(root)})
    assert source[0].name
    os.utime(changed, (1, 1))
    with pytest.raises(BadRecord, match=f"{changed.name}: has changed since") as raised:
        source[0]
    assert raised.value.kind == "changed file"


def test_few_files_stay_open(tmp_path):
    ingest(folder(tmp_path, *[{}] * 30), tmp_path / "out", shard_size=1)
    source = open_source(dict(type="records", root=str(tmp_path / "out")))
    source._open = records.Readers(most=4)
    before = len(os.listdir("/proc/self/fd"))
    assert [source[i].name for i in range(30)] == sorted(f"{i}.jpg" for i in range(30))
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_too_many_open_files_are_no_damage(tmp_path, monkeypatch):
    ingest(folder(tmp_path, {}), tmp_path / "out")
    source = open_source(dict(type="records", root=str(tmp_path / "out")))

    def refuse(path):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(records, "_opened", refuse)
    with pytest.raises(UserError, match="ulimit -n") as raised:
        source[0]
    assert not isinstance(raised.value, BadRecord | DataError)
