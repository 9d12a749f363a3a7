"""Lengths that programs are compiled for: few for single requests, tight for batches of many."""

import pytest

from sgt_jax.inference.buckets import bucket


@pytest.mark.parametrize(
    "length, alone, of_many",
    [(0, 0, 0), (1, 64, 16), (17, 64, 20), (33, 64, 40), (64, 64, 64), (65, 80, 80), (300, 320, 320)],
)
def test_lengths_are_rounded_up(length, alone, of_many):
    assert bucket(length) == alone and bucket(length, rows=15) == alone
    assert bucket(length, rows=16) == of_many


def test_a_batch_of_many_holds_a_quarter_of_empty_slots_at_most():
    assert all(n <= bucket(n, rows=200) <= 1.25 * n for n in range(16, 2_000))
