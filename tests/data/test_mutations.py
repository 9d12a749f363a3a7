"""Damaged data sets of every format give good records and named bad ones, and nothing else."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sgt_jax.data.pictures import rle
from sgt_jax.data.pictures.regions import Masks
from sgt_jax.data.sources.reading import cells
from sgt_jax.data.sources.reading.conversations import Reading
from sgt_jax.data.stored.boundary import guarded
from sgt_jax.data.stored.record import BadRecord, Record, from_bytes, to_bytes
from sgt_jax.errors import DataError
from tests.support import hostile_files as hostile
from tests.support import mutations
from tests.support.paths import REPOSITORY

FEW = settings(max_examples=100, derandomize=True, deadline=None, database=None)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("kind", sorted(mutations.FIXTURES))
def test_fifty_mutations_of_each_format(kind):
    assert mutations.whole(kind) == mutations.PHOTOS
    found = sum((mutations.outcome(kind, seed) for seed in range(50)), mutations.Counter())
    assert found["good"] and len(found) > 1, "nothing was damaged"


def test_a_picture_from_outside_is_told_from_a_white_one():
    """Damaged photos may decode to white; the picture beside the data set, read by whatever name, fails the campaign."""
    white = hostile.encoded(Image.new("RGB", (24, 16), (255,) * 3), "JPEG")
    assert mutations.outcome_of(Record("a", images=(white,)), set()) == "good"
    with pytest.raises(AssertionError, match="escaped"):
        mutations.outcome_of(Record("b", images=(mutations.secret(),)), set())
    assert mutations.outcome("sa1b", 1647) == {"good": 3}


def test_a_table_with_a_column_whose_name_is_no_text_is_a_broken_file():
    found = mutations.outcome("llava_onevision_parquet", 983)
    assert found and "good" not in found


@FEW
@given(JSON)
def test_any_item_is_a_conversation_or_a_bad_record(item):
    def make():
        return Reading().from_cells(
            "x", item if isinstance(item, dict) else {"conversations": item}, (), mutations.Counter()
        )

    with pytest.raises(BadRecord):  # none of these has a turn with an answer
        guarded("x", make)


@FEW
@given(JSON)
def test_any_cell_is_texts_or_a_bad_record(cell):
    try:
        found = cells.wordings(cell, "x")
    except BadRecord:
        return
    assert found and all(isinstance(text, str) and text == text.strip() != "" for text in found)


@FEW
@given(JSON)
def test_what_passes_the_boundary_can_be_stored(extra):
    def make():
        return Record("x", extra={"a": extra})

    try:
        record = guarded("x", make)
    except BadRecord:
        return
    again = from_bytes(to_bytes(record))
    assert json.dumps(again.extra) == json.dumps(record.extra)


@FEW
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=7))
def test_run_lengths_there_and_back(rows):
    mask = np.array(rows)
    again = Masks.of_runs([rle.encode(mask), {"size": list(mask.shape), "counts": rle.counts(mask)}])
    np.testing.assert_array_equal(again, [mask, mask])


@FEW
@given(st.text(max_size=30), st.lists(st.integers(-3, 40), min_size=2, max_size=2))
def test_any_run_lengths_are_a_mask_or_an_error(counts, size):
    try:
        mask = rle.decode({"size": size, "counts": counts})
    except DataError:
        return
    assert list(mask.shape) == size


def test_the_campaign_found_nothing():
    """What `python -m tests.support.mutations` wrote last."""
    formats = json.loads((REPOSITORY / "docs/results/mutations.json").read_text())["formats"]
    assert formats.keys() == mutations.FIXTURES.keys()
    assert all(entry["mutations"] >= 2000 and not entry["failures"] for entry in formats.values())
