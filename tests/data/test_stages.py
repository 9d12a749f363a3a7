"""Mixtures that follow one another: they change at the exact step, repeat nothing, and resume anywhere."""

import json

import pytest

from sgt_jax.data.pipeline import Batches, Component
from sgt_jax.errors import DataError
from tests.data.test_pipeline import BUDGETS, LAYOUT, Numbers, answer, make, paint, same

STAGES = (dict(steps=3, weights=dict(answer=0.0)), dict(weights=dict(paint=0.0)))


def names(infos):
    return [name for info in infos for row in info.names for name in row]


def test_stages_change_at_the_exact_step_and_later_ones_go_as_if_alone():
    it = iter(make(rows=2, stages=STAGES))
    infos = [next(it)[1] for _ in range(8)]
    assert {n.split(":")[0] for n in names(infos[:3])} == {"paint"}
    assert {n.split(":")[0] for n in names(infos[3:])} == {"answer"}
    # Conversations come in the order of a run that never saw a proxy: arms of a study stay paired.
    parts = [Component("paint", Numbers(11), paint, 0.0), Component("answer", Numbers(7), answer, 1.0)]
    alone = iter(Batches(parts, LAYOUT, BUDGETS, rows=2, seed=5, pool_size=5))
    assert names(infos[3:]) == names([next(alone)[1] for _ in range(5)])


def test_what_goes_on_in_a_later_stage_goes_on_with_another_order():
    stages = (dict(steps=4, weights={}), dict(weights=dict(paint=0.0)))
    it = iter(make(rows=1, stages=stages))
    first, second = ([next(it)[1] for _ in range(4)] for _ in range(2))
    one, two = ([n for n in names(part) if n.startswith("answer")] for part in (first, second))
    assert one and two[: len(one)] != one


def test_every_saved_state_of_a_staged_run_leads_to_the_same_batches():
    it, saved = iter(make(rows=2, stages=STAGES)), []
    for _ in range(6):
        batch, info = next(it)
        saved.append((batch, info, json.loads(json.dumps(it.get_state()))))
    for step in range(5):
        fresh = iter(make(rows=2, stages=STAGES))
        fresh.set_state(saved[step][2])
        batch, info = next(fresh)
        assert info.names == saved[step + 1][1].names and fresh.get_state() == saved[step + 1][2]
        same(batch, saved[step + 1][0])


def test_a_run_of_one_stage_is_what_it_was():
    plain, one = iter(make(rows=1)), iter(make(rows=1, stages=(dict(weights={}),)))
    for _ in range(4):
        assert next(plain)[1].names == next(one)[1].names and plain.get_state() == one.get_state()


@pytest.mark.parametrize("stages,words", [
    ((dict(steps=2, weights={}),), r"stages\[0\]: needs weights and, unless it is the last, steps"),
    ((dict(weights={}), dict(weights={})), r"stages\[0\]: needs weights"),
    ((dict(steps=0, weights={}), dict(weights={})), r"stages\[0\]: needs weights"),
    ((dict(steps=2, weights=dict(pant=1.0)), dict(weights={})), r"stages\[0\]: no \['pant'\] in config.data.mixture"),
    ((dict(steps=2, wieghts={}), dict(weights={})), r"stages\[0\]: needs weights"),
    ((dict(steps=2, weights={}), dict(weights=dict(paint=0.0, answer=0.0))), "the mixture is empty"),
])  # fmt: skip
def test_wrong_stages_are_named(stages, words):
    with pytest.raises(DataError, match=words):
        make(stages=stages)
