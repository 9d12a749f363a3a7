"""What a study would cost and could see is told before it is run."""

import re
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from sgt_jax.configs.study import dots, dots_proxies, headline, jigsaw, scarce

from sgt_jax.study import arms, forecast
from tests.support.paths import REPOSITORY as ROOT


def test_the_smallest_effect_is_seen_as_often_as_it_says():
    effect = forecast.smallest_effect(8, 1.5)
    draws = np.random.default_rng(0).normal(effect, 1.5, (20_000, 8))
    seen = np.mean(stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05)
    assert seen == pytest.approx(0.9, abs=0.01)
    assert forecast.smallest_effect(2, 1.0) > forecast.smallest_effect(4, 1.0) > effect / 1.5
    assert forecast.smallest_effect(1, 1.0) == np.inf


def test_equal_compute_is_equal_compute():
    study = headline.get_config()
    slots = {arm: forecast.slots(arms.run_config(study, arms.Run(arm, 200))) for arm in study.arms}
    assert slots["sgt"] == slots["sgt_strange"] == 500 * 15 * (160 + 64)
    assert slots["sft_long"] == pytest.approx(slots["sgt"], rel=0.001) and slots["sft"] == 500 * 15 * (110 + 48)
    assert dots.EQUAL_COMPUTE_STEPS == 709


@pytest.mark.parametrize("name", ["gates", "headline", "dots_proxies", "scarce", "jigsaw"])
def test_a_dry_run_tells_arms_seeds_gates_cost_and_effect(name):
    import importlib

    study = importlib.import_module(f"sgt_jax.configs.study.{name}").get_config()
    text = forecast.text(study)
    assert all(arm in text for arm in study.arms) and all(str(seed) in text for seed in study.seeds)
    assert "core-hours" in text and "smallest effect" in text and "gates of a kind" in text


@pytest.mark.slow  # starts the interpreter twice
def test_a_dry_run_is_a_flag_and_needs_no_work_directory():
    command = [sys.executable, "-m", "sgt_jax.study", "--config=configs/study/headline.py"]
    dry = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "registered, in order: sgt - sft" in dry.stdout
    without = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert without.returncode == 1 and "error: a study needs --workdir=DIR" in without.stderr


def test_the_documents_costs_are_those_that_the_command_prints():
    page = " ".join((ROOT / "docs/studies.md").read_text().split())
    studies = (headline, dots_proxies, scarce, jigsaw)
    printed = [forecast.text(study.get_config()) for study in studies]
    cost = {s.__name__.rpartition(".")[2]: re.search(r"about (\S+) core-hours", t)[1] for s, t in zip(studies, printed)}
    told = (
        "{headline} core-hours for the headline with its bare arms, {dots_proxies} for `dots_proxies` (less with the "
        "headline's runs reused), {scarce} for `scarce` and {jigsaw} for `jigsaw`"
    )
    assert told.format(**cost) in page
