"""The objective: global token means, their independence of micro-batches, and packs without labels or latents."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest

from sgt_jax.training.objectives import sgt


class Config(NamedTuple):
    """The fields of a config that the objective reads."""

    ce_loss_reweighting: bool
    ce_weight: float = 1.5
    mse_weight: float = 0.5


CONFIG, REWEIGHTED = Config(False), Config(True)
# One program instead of a program an operation.
objective = jax.jit(sgt.sgt_objective, static_argnums=2)


def example(rows=4, labels=5, slots=7, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.1, 1.0, (rows, labels)).astype(np.float32)
    weight[rng.random((rows, labels)) < 0.4] = 0
    sample = rng.integers(0, 3, (rows, slots)).astype(np.int32)
    noisy = rng.integers(0, 2, (rows, slots)).astype(np.int32)
    batch = {
        "labels": {"target": rng.integers(0, 11, (rows, labels)).astype(np.int32), "weight": weight},
        "gen": {"noisy": noisy, "sample": sample},
    }
    outputs = {
        "logits": rng.normal(size=(rows, labels, 11)).astype(np.float32),
        "velocity": rng.normal(size=(rows, slots, 6)).astype(np.float32),
        "velocity_target": rng.normal(size=(rows, slots, 6)).astype(np.float32),
        "noisy": (noisy > 0) & (sample > 0),
    }
    return outputs, batch


def by_hand(outputs, batch, reweight):
    """The definition, slot by slot in double."""
    ce = weights = mse = tokens = 0.0
    for r, i in np.ndindex(batch["labels"]["weight"].shape):
        weight = float(batch["labels"]["weight"][r, i])
        if weight > 0:
            logits = outputs["logits"][r, i].astype(np.float64)
            loss = np.log(np.exp(logits).sum()) - logits[batch["labels"]["target"][r, i]]
            ce += loss * (weight if reweight else 1)
            weights += weight if reweight else 1
    for r, i in np.ndindex(outputs["noisy"].shape):
        if outputs["noisy"][r, i]:
            mse += np.mean((outputs["velocity"][r, i] - outputs["velocity_target"][r, i]).astype(np.float64) ** 2)
            tokens += 1
    return ce / weights, mse / tokens


@pytest.mark.parametrize("config", [CONFIG, REWEIGHTED])
def test_agrees_with_the_definition(config):
    outputs, batch = example()
    loss, metrics = objective(outputs, batch, config)
    ce, mse = by_hand(outputs, batch, config.ce_loss_reweighting)
    np.testing.assert_allclose([metrics["ce"], metrics["mse"]], [ce, mse], rtol=1e-5)
    np.testing.assert_allclose(loss, 1.5 * ce + 0.5 * mse, rtol=1e-5)
    assert metrics["ce_count"] == (batch["labels"]["weight"] > 0).sum()
    assert metrics["mse_count"] == outputs["noisy"].sum()


@pytest.mark.parametrize("config", [CONFIG, REWEIGHTED])
def test_micro_batches_add_up_to_the_whole_step(config):
    """Dividing by the whole step's counts; a mean of micro-batch means would differ here."""
    outputs, batch = example()
    whole, _ = objective(outputs, batch, config)
    counts = sgt.loss_counts(batch, outputs["noisy"])

    @jax.jit
    def share(part, counts):
        return sgt.normalise(sgt.loss_sums(sgt.token_losses(*part), part[1]), counts, config)[0]

    parts, means = [], []
    for cut in (slice(0, 1), slice(1, 4)):
        part = jax.tree.map(lambda x: x[cut], (outputs, batch))  # noqa: B023
        parts.append(share(part, counts))
        means.append(objective(*part, config)[0])
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-6)
    assert abs(np.mean(means) - whole) > 1e-3


@pytest.mark.parametrize("config", [CONFIG, REWEIGHTED])
def test_a_batch_without_labels_and_latents_is_zero_and_finite(config):
    outputs, batch = example()
    batch["labels"]["weight"][:] = 0
    batch["gen"]["sample"][:] = 0
    outputs["noisy"][:] = False

    def loss(outputs):
        return objective(outputs, batch, config)[0]

    inexact = {k: v for k, v in outputs.items() if k != "noisy"}
    value, gradient = jax.jit(jax.value_and_grad(lambda x: loss({**x, "noisy": outputs["noisy"]})))(inexact)
    assert value == 0 and all((np.asarray(g) == 0).all() for g in jax.tree.leaves(gradient))


def test_lanes_of_length_zero():
    outputs, batch = jax.tree.map(lambda x: x[:, :0], example())
    assert objective(outputs, batch, CONFIG)[0] == 0


def test_what_padding_holds_does_not_matter():
    """Not even a NaN in a padding slot may reach the loss or the gradient."""
    outputs, batch = example()

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def loss(velocity, logits):
        return sgt.sgt_objective({**outputs, "velocity": velocity, "logits": logits}, batch, CONFIG)[0]

    whole, _ = loss(outputs["velocity"], outputs["logits"])
    velocity = np.where(outputs["noisy"][..., None], outputs["velocity"], np.float32(np.nan))
    logits = np.where(batch["labels"]["weight"][..., None] == 0, np.float32(1e30), outputs["logits"])
    broken, gradient = loss(velocity, logits)
    assert broken == whole
    assert all(np.isfinite(g).all() for g in gradient)
    assert (np.asarray(gradient[0])[~outputs["noisy"]] == 0).all()


def test_the_row_that_broke_is_known():
    outputs, batch = example()
    outputs["noisy"][:, 0] = True
    outputs["velocity"][2, 0, 0] = np.inf
    _, metrics = objective(outputs, batch, CONFIG)
    assert np.isfinite(metrics["row_loss"]).tolist() == [True, True, False, True]
