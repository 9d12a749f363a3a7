"""Intervals against known values and by simulation; differences; the record through JSON."""

import json

import numpy as np
import pytest

from sgt_jax.evaluation import statistics


def test_wilson_matches_published_values():
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3 (score interval without correction).
    for successes, n, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        got = statistics.wilson(successes, n)
        assert (round(got.low, 4), round(got.high, 4)) == (low, high)
        assert got.value == successes / n and got.n == n


@pytest.mark.parametrize("successes,n", [(3, 2), (-1, 2), (0, 0)])
def test_wilson_refuses_nonsense(successes, n):
    with pytest.raises(ValueError):
        statistics.wilson(successes, n)


def test_bootstrap_interval_has_the_normal_width():
    x = np.random.default_rng(1).normal(3.0, 2.0, 400)
    got = statistics.estimate(x)
    half = 1.96 * x.std() / 20
    assert got.value == pytest.approx(x.mean()) and got.method == "bootstrap" and got.n == 400
    assert got.low == pytest.approx(x.mean() - half, abs=0.03)
    assert got.high == pytest.approx(x.mean() + half, abs=0.03)


def test_interval_covers_the_truth_about_19_times_of_20():
    rng = np.random.default_rng(2)
    inside = 0
    for seed in range(200):
        got = statistics.estimate(rng.exponential(1.0, 80), seed=seed, resamples=2000)
        inside += got.low <= 1.0 <= got.high
    assert 0.88 <= inside / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval_in_any_block_size(monkeypatch):
    x = np.random.default_rng(3).random(50)
    first = statistics.estimate(x, seed=7)
    assert statistics.estimate(x, seed=7) == first
    assert statistics.estimate(x, seed=8) != first
    monkeypatch.setattr(statistics, "_BLOCK", 1000)
    assert statistics.estimate(x, seed=7) == first


def test_zeros_and_ones_get_wilson_and_width_at_the_ends():
    got = statistics.estimate([0] * 48)
    assert got.method == "wilson" and got.low == 0 and 0.05 < got.high < 0.1


def test_pairing_narrows_the_difference():
    rng = np.random.default_rng(4)
    hard = rng.normal(0, 5, 300)
    a, b = hard + 1 + rng.normal(0, 0.5, 300), hard + rng.normal(0, 0.5, 300)
    got = statistics.difference(a, b)
    assert got.low > 0.8 and got.high < 1.2
    assert got.value == pytest.approx((a - b).mean())
    assert statistics.difference(a, b[::-1]).low < 0.5  # other items: no longer paired, much wider


def test_groups_are_resampled_as_wholes():
    """Ten copies of every item are no new information: the interval must stay as wide as without the copies."""
    x = np.random.default_rng(5).random(40)
    alone = statistics.estimate(x)
    copied = statistics.estimate(np.repeat(x, 10), np.repeat(np.arange(40), 10))
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert statistics.estimate(np.repeat(x, 10)).high < copied.high - 0.02
    assert copied.n == 400 and copied.value == pytest.approx(x.mean())


def test_ratio_of_sums():
    items = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]])
    got = statistics.estimate(items)
    assert got.value == pytest.approx(4 / 6)
    assert statistics.difference(items, items).high == 0.0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="item 1"):
        statistics.estimate([0.5, float("nan")])
    with pytest.raises(ValueError, match="n > 0"):
        statistics.estimate([])
    with pytest.raises(ValueError, match="same items: 2 against 3"):
        statistics.difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="1 groups for 2"):
        statistics.estimate([1, 2], ["a"])


def test_score_goes_through_json():
    score = statistics.compare(
        "segmentation",
        "mask mIoU",
        [0.8, 0.9, 0.7],
        before=[0.1, 0.0, 0.2],
        baseline=[0.3, 0.3, 0.2],
        ceiling=[0.99, 0.98],
        baseline_name="best constant mask",
        ceiling_name="VAE ceiling",
    )
    assert score.over_before.low > 0 and score.over_baseline.value == pytest.approx(0.8 - 0.8 / 3)
    assert score.ceiling.n == 2
    assert statistics.Score.from_dict(json.loads(json.dumps(score.to_dict()))) == score


def test_contrast_covers_seeds_and_items():
    """Two sources of noise: the interval over both holds the truth about as often as it says, one over items does not."""
    rng, both, items_only = np.random.default_rng(0), 0, 0
    for trial in range(60):
        effect = 0.05 + rng.normal(0, 0.04, (6, 1))  # every seed has its own
        a = effect + rng.normal(0, 0.3, (6, 150))
        c = statistics.contrast(a, np.zeros((1, 150)), resamples=400, seed=trial)
        both += c.difference.low <= 0.05 <= c.difference.high
        d = statistics.difference(a.mean(0), np.zeros(150), resamples=400, seed=trial)
        items_only += d.low <= 0.05 <= d.high
    assert both >= 50 and items_only < both


def test_contrast_of_known_arms():
    a = np.tile([[1, 1, 0, 1]], (3, 1))
    c = statistics.contrast(a, a[:1])
    assert (c.difference.value, c.difference.low, c.difference.high, c.p, c.seeds) == (0.0, 0.0, 0.0, 1.0, 3)
    c = statistics.contrast(a, a - 1)
    assert c.difference.value == c.difference.low == 1.0 and c.p == 0.0
    assert statistics.contrast(a[:1], a[:1]).p is None
    # Items of one group stay together: with a single group there is nothing to resample but seeds.
    grouped = statistics.contrast(a, np.zeros_like(a), groups=["p"] * 4).difference
    assert grouped.low == grouped.high == 0.75
    assert statistics.mean_over_seeds(a).value == 0.75
    with pytest.raises(ValueError, match="different seeds or items"):
        statistics.contrast(a, a[:2])


def test_holm_steps_down():
    assert statistics.holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06], nan_ok=True)
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]


def test_whole_numbers_too_large_for_single_precision_stay_exact():
    large = float(2**24 + 1)  # rounds to 2**24 in float32
    found = statistics.mean_over_seeds([[large] * 3] * 2, resamples=50)
    assert found.value == found.low == found.high == large
