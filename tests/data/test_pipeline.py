"""Rows, mixture, packing and exact restarts of the Grain graph, on a toy source whose lengths exercise every budget."""

import json

import numpy as np
import pytest

from sgt_jax.data.examples import Example, PlanItem, Sample
from sgt_jax.data.layouts.bagel import BagelLayout, SpecialTokens
from sgt_jax.data.pipeline import Batches, Component, prefetched
from sgt_jax.errors import DataError

LAYOUT = BagelLayout(SpecialTokens(1, 2, 3, 4), vit_patch=4, vit_side=8, latent_stride=4, latent_side=8,
                     canvases=((8, 8),))  # fmt: skip
BUDGETS = {"und": 40, "vit": 8, "gen": 8, "labels": 16, "pixels:8x8": 2}


class Numbers:
    """n examples named by their index; `bad` ones cannot be read."""

    def __init__(self, n, bad=()):
        self.n, self.bad = n, set(bad)

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i in self.bad:
            raise DataError(f"number {i}: unreadable")
        return Example(str(i), image=np.full((8, 8, 3), i % 251, np.uint8))


def paint(example, rng):
    extra = [9] * int(rng.integers(0, 5))
    return Sample(example.name, (PlanItem("vit_image", example.image), PlanItem("text", [7, *extra], droppable=True),
                                 PlanItem("vae_image", example.image, loss=True)))  # fmt: skip


def answer(example, rng):
    return Sample(example.name, (PlanItem("vit_image", example.image), PlanItem("text", [5, 6]),
                                 PlanItem("text", [8] * int(rng.integers(1, 4)), loss=True)))  # fmt: skip


def make(rows=3, bad=(), on_bad="error", **kwargs):
    parts = [Component("paint", Numbers(11, bad), paint, 2.0), Component("answer", Numbers(7), answer, 1.0)]
    return Batches(parts, LAYOUT, BUDGETS, rows=rows, seed=5, pool_size=5, on_bad=on_bad, **kwargs)


def same(a, b):
    for lane in a:
        for field in a[lane]:
            np.testing.assert_array_equal(a[lane][field], b[lane][field], err_msg=f"{lane}.{field}")


def test_every_record_is_seen_and_none_twice_within_an_epoch():
    it = iter(make(rows=1))
    names = [n for _ in range(40) for n in next(it)[1].names[0]]
    painted = [int(n.split(":")[1]) for n in names if n.startswith("paint")]
    # The pool may reorder neighbours but cannot lose a record: the first epochs are complete up to the pool's size.
    first = painted[: 11 * 3]
    counts = np.bincount(first, minlength=11)
    assert counts.sum() == 33 and counts.min() >= 2 and counts.max() <= 4
    assert painted[:11] != painted[11:22]  # reshuffled


def test_mixture_is_exact_over_the_stream():
    it = iter(make(rows=2))
    infos = [next(it)[1] for _ in range(60)]
    total = {k: sum(i.samples.get(k, 0) for i in infos) for k in ("paint", "answer")}
    # Whatever was read but not yet packed waits in two pools of five.
    assert abs(total["paint"] - 2 * total["answer"]) <= 2 * 5 * 2


@pytest.mark.parametrize("threads", [0, 8])
def test_restart_is_exact_in_the_middle_and_threads_do_not_matter(threads):
    reference = iter(make())
    expected = [next(reference)[0] for _ in range(9)]
    it = iter(prefetched(make(read_threads=threads), 2))
    for i in range(4):
        same(next(it)[0], expected[i])
    state = json.loads(json.dumps(it.get_state()))
    fresh = iter(prefetched(make(read_threads=threads), 2))
    fresh.set_state(state)
    for i in range(4, 9):
        same(next(fresh)[0], expected[i])


def test_rows_do_not_depend_on_who_produces_them():
    whole = iter(make(rows=4))
    parts = [iter(make(rows=4, own_rows=[0, 1])), iter(make(rows=4, own_rows=[2, 3]))]
    for _ in range(3):
        batch = next(whole)[0]
        halves = [next(p)[0] for p in parts]
        joined = {k: {f: np.concatenate([h[k][f] for h in halves]) for f in batch[k]} for k in batch}
        same(batch, joined)


def test_pointers_are_shifted_with_their_lanes():
    batch, info = next(iter(make(rows=1)))
    und, vit, gen = batch["und"], batch["vit"], batch["gen"]
    assert len(info.names[0]) > 1
    points = und["vit"][0][und["vit"][0] >= 0]
    np.testing.assert_array_equal(points, np.arange(np.count_nonzero(vit["sample"])))
    np.testing.assert_array_equal(vit["sample"][0][points], und["sample"][0][und["vit"][0] >= 0])
    real = gen["sample"][0] > 0
    np.testing.assert_array_equal(gen["sample"][0][gen["time"][0][real]], gen["sample"][0][real])
    for slot in np.flatnonzero(real):
        picture = batch["pixels:8x8"]["pixels"][0, gen["picture:8x8"][0, slot]]
        name = [n for n in info.names[0]][gen["sample"][0, slot] - 1]
        assert picture[0, 0, 0] == int(name.split(":")[1])
    labels = batch["labels"]
    real = labels["weight"][0] > 0
    np.testing.assert_array_equal(und["sample"][0][labels["slot"][0][real]], labels["sample"][0][real])


def test_bad_records_stop_the_run_or_are_counted():
    with pytest.raises(DataError, match="number 3: unreadable"):
        it = iter(make(bad=[3]))
        for _ in range(20):
            next(it)
    it = iter(make(bad=[3], on_bad="skip"))
    infos = [next(it)[1] for _ in range(20)]
    assert sum(i.skipped.get("paint: unfit for its task", 0) for i in infos) >= 2
    assert not any("paint:3" in names for i in infos for names in i.names)


def test_only_bad_records_end_with_an_error_not_a_hang():
    parts = [Component("paint", Numbers(3, bad=range(3)), paint, 1.0)]
    with pytest.raises(DataError, match="records in a row"):
        next(iter(Batches(parts, LAYOUT, BUDGETS, rows=1, on_bad="skip")))


def test_too_small_budgets_and_wrong_states_name_the_culprit():
    parts = [Component("paint", Numbers(3), paint, 1.0)]
    with pytest.raises(
        DataError, match=r"takes 4 slots of lane 'gen'.*budget is 2.*raise config.data.budgets\['gen'\]"
    ):
        next(iter(Batches(parts, LAYOUT, dict(BUDGETS, gen=2), rows=1)))
    with pytest.raises(DataError, match="no records"):
        Batches([Component("none", Numbers(0), paint, 1.0)], LAYOUT, BUDGETS, rows=1)
    state = iter(make(rows=2)).get_state()
    with pytest.raises(DataError, match="rows"):
        iter(make(rows=3)).set_state(state)


def test_packs_that_lack_a_lane_keep_their_shapes():
    part = [Component("answer", Numbers(7), answer, 1.0)]
    batch, _ = next(iter(Batches(part, LAYOUT, BUDGETS, rows=2)))
    assert batch["gen"]["sample"].shape == (2, 8) and not batch["gen"]["sample"].any()
