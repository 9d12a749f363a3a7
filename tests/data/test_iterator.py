"""Order and state of the batches: the same with any number of threads and processes, from any step, and new every epoch."""

import json

import grain
import numpy as np
import pytest

from sgt_jax.data.pipeline import Component, component_stream, prefetched
from tests.data.test_pipeline import BUDGETS, LAYOUT, Numbers, answer, make, paint, same


def take(it, n):
    """n steps of an iterator: (batch, info, the state after it as it would be saved)."""
    found = []
    for _ in range(n):
        batch, info = next(it)
        found.append((batch, info, json.loads(json.dumps(it.get_state()))))
    return found


@pytest.fixture(scope="module")
def unthreaded():
    return take(iter(make(rows=2)), 10)


@pytest.mark.parametrize("threads", [4, 16])
def test_order_and_state_do_not_depend_on_reading_threads(unthreaded, threads):
    found = take(iter(prefetched(make(rows=2, read_threads=threads), 3)), 10)
    for (batch, info, state), (batch_0, info_0, state_0) in zip(found, unthreaded, strict=True):
        assert info.names == info_0.names and state == state_0
        same(batch, batch_0)


def test_every_epoch_has_an_order_of_its_own_and_every_record():
    part = Component("paint", Numbers(11), paint, 1.0)
    stream = component_stream(part, LAYOUT, BUDGETS, seed=3, on_bad="error")
    epochs = [[stream[e * 11 + i].name for i in range(11)] for e in range(6)]
    assert all(sorted(epoch, key=int) == [str(i) for i in range(11)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    again = component_stream(part, LAYOUT, BUDGETS, seed=3, on_bad="error")
    assert [again[i].name for i in range(66)] == sum(epochs, [])
    other = component_stream(part, LAYOUT, BUDGETS, seed=4, on_bad="error")
    assert [other[i].name for i in range(66)] != sum(epochs, [])


def test_any_process_count_that_divides_the_rows_goes_on_identically():
    rows = 6
    whole = take(iter(make(rows=rows)), 8)
    # Saved by two processes, each with the rows it owns; a checkpoint holds them side by side.
    halves = [iter(make(rows=rows, own_rows=own)) for own in (range(3), range(3, 6))]
    states = [take(half, 4)[-1][2] for half in halves]
    saved = states[0] | states[1]
    assert saved == whole[3][2]
    for processes in (1, 2, 3, 6):
        share = rows // processes
        iterators = [
            iter(make(rows=rows, own_rows=range(p * share, (p + 1) * share), read_threads=p)) for p in range(processes)
        ]
        for it in iterators:
            it.set_state(saved)
        for batch, info, _ in whole[4:]:
            parts = [next(it) for it in iterators]
            joined = {k: {f: np.concatenate([b[k][f] for b, _ in parts]) for f in batch[k]} for k in batch}
            same(joined, batch)
            assert sum((i.names for _, i in parts), ()) == info.names


@pytest.mark.parametrize("threads", [0, 4, 16])
def test_grains_own_check_of_restarts_on_the_stream_of_a_row(threads):
    # It demands states of constant shape, which those of the packer's pool are not: that is checked below in the same way.
    parts = [Component("paint", Numbers(11), paint, 2.0), Component("answer", Numbers(7), answer, 1.0)]
    streams = [component_stream(part, LAYOUT, BUDGETS, i, "error")[1::2] for i, part in enumerate(parts)]
    mixed = grain.MapDataset.mix(streams, weights=[2.0, 1.0]).map(lambda item: (item.component, item.name))
    options = grain.ReadOptions(threads, max(2 * threads, 1))
    grain.experimental.assert_equal_output_after_checkpoint(mixed[:12].to_iter_dataset(options))


def test_every_saved_state_leads_to_the_same_batches(unthreaded):
    fresh = iter(make(rows=2))
    for step in range(9):
        fresh.set_state(unthreaded[step][2])
        assert json.loads(json.dumps(fresh.get_state())) == unthreaded[step][2]
        for batch, info, state in unthreaded[step + 1 :]:
            found, found_info = next(fresh)
            assert found_info.names == info.names and fresh.get_state() == state
            same(found, batch)
