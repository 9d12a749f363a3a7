"""How many answers a painting replaces: a planted number is found, and what lies beyond the curve is called a bound."""

import numpy as np
import pytest
from etils import epath
from sgt_jax.configs.study import scarce

from sgt_jax.errors import ConfigError
from sgt_jax.study import decide, replaced
from tests.support import dots_results

POOLS = (250, 1_000, 4_000)
CURVE = (0.50, 0.60, 0.70)  # of SFT: ten points for four times as many answers


def test_a_score_is_placed_on_the_curve_by_the_logarithm_of_the_pool():
    assert replaced.placed(60.0, POOLS, [50, 60, 70]) == (np.log2(1_000), 0)
    where, beyond = replaced.placed(65.0, POOLS, [50, 60, 70])
    assert where == pytest.approx(np.log2(2_000)) and beyond == 0
    assert replaced.placed(71.0, POOLS, [50, 60, 70]) == (np.log2(4_000), 1)
    assert replaced.placed(49.0, POOLS, [50, 60, 70]) == (np.log2(250), -1)
    # Where it falls the curve is level; as good are then the fewest answers.
    assert replaced.placed(55.0, POOLS, [50, 60, 50]) == (np.log2(1_000), 0)


def planted(folder, gain):
    """`gain` of each arm over SFT at the same pool, and a seed's own level, which must not count."""

    def accuracy(arm, seed, kind):
        name, _, pool = arm.rpartition("_")
        if kind == "quadrant" or not pool.isdigit():  # a control
            return 0.95
        number = seed - scarce.SEEDS[0]
        own = gain[name] + 0.005 * (number - 1.5) if name in gain else 0.0  # not the same in every seed
        return CURVE[POOLS.index(int(pool))] + own + 0.01 * number

    study = scarce.get_config()
    return study, dots_results.planted(epath.Path(folder), study, accuracy)


def test_twice_as_good_answers_are_found_and_bounds_are_said(tmp_path):
    study, folder = planted(tmp_path, {"sgt": 0.05, "strange": -0.05})
    text = decide.markdown(study, folder)
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    # Half of the way from one pool to the next: 2 times as many; 250 of them for 12,000 paintings.
    assert "| 2 (1.7 to 2.3, 4 seeds) |" in rows["sgt_0250"] and rows["sgt_0250"].endswith(f"| {250 / 12_000:.2g} |")
    assert "| at least 1 (4 seeds, 4 above SFT's curve)" in rows["sgt_4000"]
    assert "| at most 1 (4 seeds, 4 below SFT's curve)" in rows["strange_0250"]
    assert "| 0.5 (0.43 to 0.58, 4 seeds) |" in rows["strange_1000"] and "| 1 (4 seeds) |" in rows["paint_1000"]


def test_pools_must_rise(tmp_path):
    plan = scarce.get_config().replaced.to_dict() | {"pools": (1_000, 250)}
    with pytest.raises(ConfigError, match="in rising order"):
        replaced.every(None, plan)


def test_before_a_seed_has_the_curve_nothing_is_said(tmp_path):
    study = scarce.get_config()
    folder = dots_results.planted(epath.Path(tmp_path), study, lambda *_: 0.8, only=("sft_0250", "sgt_0250"))
    assert "no seed has SFT at every pool" in decide.markdown(study, folder)
