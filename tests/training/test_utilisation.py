"""MFU of a run: what was needed over what the devices could do, and silence where that is unknown."""

import pytest

from sgt_jax.models.attention.work import attention_work
from sgt_jax.models.bagel import costs
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.costs import typical_row
from sgt_jax.training.config_file import load
from sgt_jax.training.experiment import Blueprint
from sgt_jax.training.utilisation import Utilisation

BUDGETS = {"und": 256, "gen": 2816, "vit": 256, "labels": 64}  # one painting


def made(kind, objective="sgt"):
    config = load("configs/bagel_7b_sgt.py", [f"data.budgets={BUDGETS}", "data.rows=4"])
    config.objective.name = objective
    model = BagelConfig.from_dict(config.model.to_dict())
    return Utilisation(Blueprint(config), kind, 2), model, tuple(config.freeze)


def test_unknown_peaks_claim_nothing():
    assert made("cpu")[0].scalars(dict.fromkeys(BUDGETS, 1.0), 1.0) == {}
    assert made("TPU v5", "autoencoder")[0].scalars({}, 1.0) == {}


def test_share_of_the_peak():
    run, model, freeze = made("TPU v5")
    pairs = dict(zip(("decoder", "vit"), (4 * attention_work(info, 512)[0] for info in typical_row(BUDGETS))))
    assert pairs["decoder"] > 4 * 2752**2
    needed = sum(costs.training_flops(model, {lane: 4 * n for lane, n in BUDGETS.items()}, pairs, freeze).values())
    full = run.scalars(dict.fromkeys(BUDGETS, 1.0), 2.0)["mfu"]
    assert full == pytest.approx(needed / 2.0 / (2 * 459e12))
    assert run.scalars(dict.fromkeys(BUDGETS, 0.5), 2.0)["mfu"] == pytest.approx(full / 2)
