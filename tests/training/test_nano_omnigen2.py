"""docs/results.md quotes the stored run of configs/nano_omnigen2.py: of the settings that ship, and above its bars."""

import json

import pytest
from sgt_jax.configs import nano_omnigen2

from sgt_jax.evaluation.statistics import Estimate, Score
from sgt_jax.reporting.run_page import plain_table
from tests.support.paths import REPOSITORY

STORED = json.loads((REPOSITORY / "docs" / "results" / "nano_omnigen2" / "results.json").read_text())


def scores():
    """As the run printed them."""
    return [Score(**{k: Estimate(**v) if isinstance(v, dict) else v for k, v in s.items()}) for s in STORED["scores"]]


def test_it_is_of_the_settings_that_ship():
    ours = json.loads(nano_omnigen2.get_config().to_json_best_effort())
    # Neither changes more than rounding; the stored run had two virtual devices.
    assert {name for name in ours if ours[name] != STORED["config"].get(name)} <= {"compilation_cache", "cpu_devices"}


@pytest.mark.parametrize("name", ["answer accuracy", "mask mIoU", "panoptic quality (class-agnostic)"])
def test_answers_are_above_the_majority_and_masks_above_the_best_constant_one(name):
    (score,) = [s for s in scores() if s.name == name and not s.kind]
    assert score.over_baseline.low > 0 and score.after.n >= 256


def test_the_page_quotes_its_table():
    assert plain_table(scores()) in (REPOSITORY / "docs" / "results.md").read_text()
