"""The registered contrasts: the tests that were named, in their order, and no decision before the registered seeds."""

import numpy as np
import pytest
from etils import epath
from PIL import Image
from scipy import stats
from sgt_jax.configs.study import headline

from sgt_jax.errors import ConfigError
from sgt_jax.study import decide, registered, tables
from tests.support.dots_results import planted
from tests.support.paths import REPOSITORY

SEEDS = headline.SEEDS
# Points that an arm has more than SFT has, a seed each: what is planted must come out.
GAINS = dict(
    sft=[0.0] * 8,
    sgt=[3.0, 4.0, 3.5, 4.5, 3.0, 4.0, 3.5, 4.5],
    sgt_strange=[0.5, 0.0, -0.5, 0.0, 0.5, 0.0, -0.5, 0.0],
    sft_long=[12.0, 13.0, 12.5, 11.0, 12.0, 13.0, 12.5, 11.0],
)


def accuracy(arm, seed, kind):
    return (0.60 if kind != "quadrant" else 0.85) + GAINS[arm][SEEDS.index(seed)] / 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    study = headline.get_config()
    study.seeds = SEEDS
    return planted(epath.Path(tmp_path_factory.mktemp("headline")), study, accuracy, only=tuple(GAINS))


def test_what_is_planted_comes_out_with_the_tests_that_were_registered(folder):
    results = tables.read_results(folder)
    first, strange, compute = registered.contrasts(results)
    planted_gains = np.round(np.array(GAINS["sgt"]) * 4) / 4  # in steps of an item of 400
    assert (first.arm, first.against, first.seeds) == ("sgt", "sft", 8)
    assert first.points == pytest.approx(planted_gains.mean()) == pytest.approx(3.75)
    assert first.p == pytest.approx(stats.ttest_rel(planted_gains, np.zeros(8)).pvalue) and first.adjusted == first.p
    half = stats.t.ppf(0.975, 7) * planted_gains.std(ddof=1) / np.sqrt(8)
    assert first.high - first.low == pytest.approx(2 * half) and first.equivalence > 0.99
    assert strange.points == pytest.approx(3.75) and compute.points == pytest.approx(3.75 - 12.125)
    small, large = sorted((strange, compute), key=lambda c: c.p)
    assert small.adjusted == pytest.approx(2 * small.p) and large.adjusted >= large.p


def test_the_sentence_is_the_registered_one_and_only_at_the_registered_number_of_seeds(folder):
    text = decide.markdown(headline.get_config(), folder)
    words = headline.SENTENCES
    assert f"{words['first_more']} {words['strange_more']} {words['compute_less']}\n" in text
    results = tables.read_results(folder)
    fewer = {arm: {s: r for s, r in seeds.items() if s < 205} for arm, seeds in results.records.items()}
    assert registered.markdown(results._replace(records=fewer)).endswith(
        "5 of 8 seeds have every arm so far: nothing is decided."
    )
    lone = {arm: fewer[arm] for arm in ("sft", "sgt")}
    assert registered.markdown(results._replace(records=lone)).endswith("nothing is decided.")


def test_a_picture_of_the_contrasts(folder, tmp_path):
    path = tmp_path / "contrasts.png"
    decide.markdown(headline.get_config(), folder, path)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] == 936 and pixels.shape[0] > 400
    dots = np.abs(pixels - (0x7F, 0xA8, 0xD1)).sum(axis=2) < 60
    rows = np.flatnonzero(dots.any(axis=1))
    assert 1 + int((np.diff(rows) > 1).sum()) == 3  # a line of dots for each contrast
    plain = headline.get_config()
    with plain.unlocked():
        del plain.registered
    with pytest.raises(ConfigError, match="no `registered` contrasts to draw: leave --figure out"):
        decide.markdown(plain, folder, path)


def test_every_verdict_has_its_sentence():
    verdicts = ("more", "less", "equal", "open")
    order = headline.get_config().registered.order
    assert set(headline.SENTENCES) == {f"{name}_{v}" for name in order for v in verdicts}


def test_four_more_seeds_are_run_because_the_rule_says_so():
    study = headline.get_config()
    first, *_ = registered.contrasts(tables.read_results(REPOSITORY / "docs" / "results" / "headline"))
    assert registered.wanted_seeds(first, study.registered.to_dict()) == len(study.seeds) == 12


@pytest.mark.parametrize("differences,expected", [
    ((2.9, 3.1, 3.0, 3.2), "more"), ((-2.9, -3.1, -3.0, -3.2), "less"),
    ((0.3, -0.2, 0.1, -0.3), "equal"), ((5.0, -6.0, 4.0, -2.0), "open"), ((1.0,), "open"),
])  # fmt: skip
def test_verdicts(differences, expected):
    assert registered.verdict(registered.paired("x", "a", "b", differences, 2.0)) == expected


def test_equivalence_is_two_one_sided_tests():
    d = [0.9, -0.4, 0.8, 1.2, 0.1]
    c = registered.paired("x", "a", "b", d, 2.0)
    sides = [stats.ttest_rel(np.array(d) + 2, np.zeros(5), alternative="greater").pvalue,
             stats.ttest_rel(np.array(d) - 2, np.zeros(5), alternative="less").pvalue]  # fmt: skip
    assert c.equivalence == pytest.approx(max(sides))


def test_a_wide_interval_at_the_registered_seeds_asks_for_more_of_them(folder, monkeypatch):
    results = tables.read_results(folder)
    plan = results.facts["registered"]

    def wanted(*gains):
        """With these gains of `sgt`, a seed each."""
        of = {"sgt": dict(enumerate(gains)), "sft": dict.fromkeys(range(len(gains)), 0.0)}
        monkeypatch.setattr(registered, "score", lambda results, arm, kinds: of.get(arm, of["sft"]))
        return registered.wanted_seeds(registered.contrasts(results)[0], plan)

    wide, narrow = [6, -5, 7, -3, 8, 0, 4, -2], [1.0, 1.5] * 4
    assert wanted(*wide) == 12 and wanted(*narrow) == wanted(*wide[:7]) == 8
    assert wanted(*wide, *[1.0] * 400) == 12  # however narrow it became since
    assert wanted(*narrow, 60.0, -60.0) == 8  # or wide
