"""How many items a difference needs: against 2,000 simulations of the very tests that are used."""

import math

import numpy as np
import pytest
import scipy.stats

from sgt_jax.evaluation import power

SIMULATIONS = 2000


def seen_by_two(items, discordant, difference, seed=0):
    """The share of simulated pairs of runs of which McNemar's test sees the difference."""
    rng = np.random.default_rng(seed)
    up, down = (discordant + difference) / 2, (discordant - difference) / 2
    counts = rng.multinomial(items, [up, down, 1 - discordant], SIMULATIONS)
    seen = [power.mcnemar_of_counts(int(u), int(d)) < power.ALPHA for u, d, _ in counts]
    return float(np.mean(seen))


@pytest.mark.parametrize("discordant, difference", [(0.10, 0.02), (0.15, 0.05), (0.04, 0.01)])
@pytest.mark.parametrize("wanted", [0.8, 0.5])
def test_two_models(discordant, difference, wanted):
    items = power.items_for_two(discordant, difference, wanted)
    assert power.power_of_two(items, discordant, difference) == pytest.approx(wanted, abs=0.01)
    assert seen_by_two(items, discordant, difference) == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("accuracy, difference", [(0.7, 0.02), (0.85, 0.03), (0.5, -0.05)])
def test_one_model(accuracy, difference):
    items = power.items_for_one(accuracy, difference)
    right = np.random.default_rng(0).binomial(items, accuracy + difference, SIMULATIONS)
    z = (right / items - accuracy) / math.sqrt(accuracy * (1 - accuracy) / items)
    seen = float(np.mean(np.abs(z) > scipy.stats.norm.ppf(1 - power.ALPHA / 2)))
    assert seen == pytest.approx(0.8, abs=0.02)
    assert power.power_of_one(items, accuracy, difference) == pytest.approx(0.8, abs=0.01)


def test_items_in_pairs_need_more_by_the_design_effect():
    """Pairs of questions that are right or wrong together half of the time: z over groups sees what the formula says."""
    rng, discordant, difference, together = np.random.default_rng(1), 0.2, 0.03, 0.5

    def draws(shape):
        return rng.choice(
            [1, -1, 0], shape, p=[(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
        )

    def pairs(count, simulations=1):
        first, second = draws((simulations, count)), draws((simulations, count))
        return np.stack([first, np.where(rng.random((simulations, count)) < together, first, second)], -1)

    example = pairs(20_000)[0]
    effect = power.design_effect(example.ravel(), np.repeat(np.arange(len(example)), 2))
    assert effect == pytest.approx(1 + together, abs=0.05)
    count = math.ceil(power.items_for_two(discordant, difference) * effect / 2)
    sums = pairs(count, SIMULATIONS).sum(-1)
    z = sums.mean(1) / (sums.std(1) / math.sqrt(count))
    assert float(np.mean(np.abs(z) > 1.96)) == pytest.approx(0.8, abs=0.02)


def test_small_things():
    assert power.items_for_two(0.10, 0.01) == 7847
    assert power.design_effect([1, 0, 1], None) == 1.0 and power.design_effect([1, 1], ["a", "a"]) == 1.0
    assert power.discordance([1, 0, 1, 0], [1, 1, 1, 1]) == 0.5
    assert power.mcnemar([1, 0], [1, 0]) == 1.0 and power.mcnemar([0] * 8, [1] * 8) == pytest.approx(2**-8)
    for wrong in ((0.01, 0.02), (0.1, 0.0)):
        with pytest.raises(ValueError, match="discordant pairs"):
            power.items_for_two(*wrong)
    with pytest.raises(ValueError, match="between 0 and 1"):
        power.items_for_one(0.99, 0.02)
