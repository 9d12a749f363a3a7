"""Stored and open sources feed training: every good record once per epoch, bad ones counted, forms side by side."""

from collections import Counter

import grain
import pytest

from sgt_jax.data import tasks
from sgt_jax.data.layouts.bagel import BagelLayout, SpecialTokens
from sgt_jax.data.pictures import resizing
from sgt_jax.data.pipeline import Batches, Component, component_stream
from sgt_jax.data.sources import open_source
from sgt_jax.data.stored.ingest import ingest
from sgt_jax.errors import DataError
from tests.support import hostile_files as hostile
from tests.support.llava_folder import TURNS, llava

LAYOUT = BagelLayout(SpecialTokens(1, 2, 3, 4), vit_patch=4, vit_side=8, latent_stride=4, latent_side=8,
                     canvases=((8, 8),))  # fmt: skip
BUDGETS = {"und": 160, "vit": 64, "gen": 8, "labels": 64, "pixels:8x8": 2}


def answering(source):
    task = tasks.Understanding(lambda text: [5] * len(text.split()), resizing.ResizeRule(4, 8, 8))
    return Component("answer", source, task, 1.0)


@pytest.mark.parametrize("form", ["lines", "records"])
def test_every_good_record_arrives_exactly_once_per_epoch_whatever_stands_around_it(tmp_path, form):
    spec = llava(tmp_path / "in", 37, bad=(3, 20))
    with open(tmp_path / "in/annotations/all_data.jsonl", "ab") as file:
        turns = [{"from": "human", "value": "Two and two?"}, {"from": "gpt", "value": "Four."}]
        several = [{"from": "human", "value": "<image><image>"}, {"from": "gpt", "value": "Both."}]
        file.write(hostile.json_lines([
            hostile.NOT_UTF8_LINE,
            {"id": "text", "conversations": turns},
            {"id": "two", "image": ["1.jpg", "2.jpg"], "conversations": several},
            {"id": "tags", "image": "1.jpg", "conversations": several},
            {"id": "cut", "image": "cut.jpg", "conversations": TURNS},
        ]))  # fmt: skip
    hostile.write(tmp_path / "in/images/cut.jpg", hostile.truncated_jpeg())
    count, bad_ones = 42, 5
    if form == "records":
        assert ingest(spec, tmp_path / "out", on_bad="skip", shard_size=10, check="all")["records"] == count - bad_ones
        spec, count, bad_ones = {"type": "records", "root": str(tmp_path / "out")}, count - bad_ones, 0
    source = open_source(spec)
    assert len(source) == count
    stream = component_stream(answering(source), LAYOUT, BUDGETS, 0, "skip")
    epochs = []
    for epoch in range(2):
        options = grain.ReadOptions(num_threads=8, prefetch_buffer_size=16)
        items = list(stream[epoch * count : (epoch + 1) * count].to_iter_dataset(options))
        good = Counter(item.name for item in items if item.lanes is not None)
        assert len(good) == 37 and set(good.values()) == {1}
        skipped = [item for item in items if item.lanes is None]
        assert len(skipped) == bad_ones and all(item.reason for item in skipped)
        epochs.append([item.name for item in items])
    assert epochs[0] != epochs[1]


def test_skipped_records_are_counted_and_logged_in_batches(tmp_path, caplog):
    source = open_source(llava(tmp_path / "in", 8, bad=(3,)))
    with pytest.raises(DataError, match="nowhere.jpg: no such picture"):
        batches = iter(Batches([answering(source)], LAYOUT, BUDGETS, rows=1, pool_size=4))
        [next(batches) for _ in range(4)]
    for threads in (0, 4):
        batches = iter(
            Batches([answering(source)], LAYOUT, BUDGETS, rows=2, pool_size=4, read_threads=threads, on_bad="skip")
        )
        infos = [next(batches)[1] for _ in range(8)]
        skipped = sum(info.skipped.get("answer: missing picture", 0) for info in infos)
        samples = sum(sum(info.samples.values()) for info in infos)
        # One record in eight: what was read is what was packed, what waits in two pools of four, and what was skipped.
        assert samples // 7 - 1 <= skipped <= (samples + 8) // 7 + 1
    assert "nowhere.jpg" in caplog.text


def test_a_config_trains_on_tars_and_records_side_by_side(tmp_path):
    """Photos in tars are painted, conversations of records answered: text alone, one picture and two reach the batches."""
    from sgt_jax.training import experiment
    from tests.support import tiny_experiment

    config = tiny_experiment.config()
    for folder, form in (("sam_selection", "JPEG"), ("sam_mask", "PNG")):
        members = [(f"{folder}/{n}.{form.lower()}", hostile.numbered(n, 96, 96, form)) for n in range(6)]
        hostile.tar(tmp_path / f"sam/{folder}.tar", members)
    ask = [{"from": "human", "value": "what is it ?"}, {"from": "gpt", "value": "red"}]
    both = [{"from": "human", "value": "<image>\nwhat ?"}, {"from": "gpt", "value": "red"},
            {"from": "human", "value": "and <image> ?"}, {"from": "gpt", "value": "blue"}]  # fmt: skip
    spec = llava(tmp_path / "in", 4)
    with open(tmp_path / "in/annotations/all_data.jsonl", "ab") as file:
        file.write(hostile.json_lines([{"conversations": ask}, {"image": ["1.jpg", "2.jpg"], "conversations": both}]))
    ingest(spec, tmp_path / "out")
    with config.unlocked():
        config.data.sources = dict(
            sam=dict(type="sam_sgt_tars", root=str(tmp_path / "sam")),
            llava=dict(type="records", root=str(tmp_path / "out")),
        )
        config.data.mixture = dict(
            paint=dict(source="sam", task="proxy", proxy="segmentation", weight=1.0),
            answer=dict(source="llava", task="understanding", weight=1.0),
        )
    batches = iter(experiment.build(config).batches())
    names = {name for _ in range(12) for row in next(batches)[1].names for name in row}
    assert {f"answer:annotations/all_data.jsonl[{i}]" for i in range(6)} <= names
    assert {f"paint:sam_selection.tar/sam_selection/{i}.jpeg" for i in range(6)} <= names
