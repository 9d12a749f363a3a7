"""Packs of the 7B recipe are full, on the committed model of real picture sizes and text lengths."""

import numpy as np
import pytest
from sgt_jax.configs import bagel_7b_sgt

from sgt_jax.data.packing import choose
from sgt_jax.timing import lengths, packing


@pytest.mark.parametrize("variant, least", [("", 0.80), ("32k", 0.90)])
def test_the_recipe_fills_its_rows(variant, least):
    data = bagel_7b_sgt.get_config(variant).data
    found = packing.measure(dict(data.budgets), data.pool_size, rows=200)
    assert found["decoder"] >= least, found
    assert min(found["und"], found["gen"]) >= 0.75 and found["skipped"] < 0.002
    # The stream is exactly 2:1; the only difference is what waits in the pool, at worst all of one kind.
    answered = 200 * found["samples"] / (1 + found["ratio"])
    assert abs(found["ratio"] - 2) * answered <= 2 * data.pool_size


def test_lengths_follow_from_sizes_by_the_recipes_rules():
    config = bagel_7b_sgt.get_config()
    part = config.data.mixture.understanding.vit_size
    assert lengths.QUESTION_VIT == (part.stride, part.min_size, part.max_size, part.max_pixels)
    part = config.data.mixture.segmentation.vit_size
    assert lengths.PROXY_VIT == (part.stride, part.min_size, part.max_size)
    part = config.data.target_size
    assert lengths.TARGET == (part.stride, part.min_size, part.max_size)
    # A 3:2 photo: 224 x 154 through the encoder, 1024 x 688 to paint.
    assert lengths.slots(2250, 1500, lengths.PROXY_VIT) == 16 * 11
    assert lengths.slots(2250, 1500, lengths.TARGET) == 64 * 43
    assert lengths.slots(640, 480, lengths.QUESTION_VIT) == 46 * 34


def test_the_oldest_always_goes_and_the_fuller_row_wins():
    def sample(und, gen):
        return {"und": {"sample": np.ones(und)}, "gen": {"sample": np.ones(gen)}}

    budgets = {"und": 10, "gen": 10}
    pool = [sample(2, 1), sample(3, 3), sample(1, 2), sample(8, 9), sample(4, 4)]
    # By age 0, 1, 2, 4 fill 10 + 10; the large one beside the oldest would fill 10 + 10, too: then age wins.
    assert choose(pool, budgets) == [0, 1, 2, 4]
    assert choose(pool[:4], budgets) == [0, 3]
    generator = np.random.default_rng(0)
    for _ in range(200):
        pool = [sample(*generator.integers(1, 8, 2)) for _ in range(6)]
        chosen = choose(pool, budgets)
        assert chosen[0] == 0 and chosen == sorted(set(chosen))
        for lane in budgets:
            assert sum(len(pool[i][lane]["sample"]) for i in chosen) <= 10
