"""Alignment of losses with known gradients, and the gradients themselves by an identity between their two kinds."""

import numpy as np
import pytest

from sgt_jax.analysis.alignment import gradients
from sgt_jax.analysis.alignment.cosine import alignment
from sgt_jax.data.examples import PlanItem
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.family import FAMILY
from tests.support import tiny_bagel, tiny_experiment

RNG = np.random.default_rng(0)


def test_a_loss_with_itself_and_with_its_negative():
    x = RNG.standard_normal((40, 30)) + 0.5
    same, opposite = alignment(x, x), alignment(x, -3 * x)
    assert same.cosine.value == pytest.approx(1) and same.projected == pytest.approx(1)
    assert opposite.cosine.value == pytest.approx(-1) and opposite.projected == pytest.approx(-1)
    assert same.per_example == pytest.approx(1) and opposite.per_example == pytest.approx(-1)
    assert same.score == pytest.approx(same.effective_dimension**0.5)
    assert same.cosine.low == pytest.approx(1) and opposite.cosine.high == pytest.approx(-1)


def test_unrelated_losses_and_a_shared_direction():
    a, b = RNG.standard_normal((2, 60, 200))
    assert abs(alignment(a, b).cosine.value) < 4 / np.sqrt(200)  # four standard deviations of a random cosine
    shared = alignment(a + 3, b + 3)
    assert shared.cosine.value > 0.9 and shared.cosine.low > 0.8 and min(shared.reliability) > 0.9
    # A thousand times the other loss's size changes nothing: both are scaled first.
    large = alignment(1000 * (a + 3), b + 3)
    assert large.projected == pytest.approx(shared.projected) and large.components == shared.components


def test_effective_dimension_of_energies_done_by_hand():
    x = np.zeros((8, 5))
    x[np.arange(8), np.arange(8) % 2] = 1  # two equal directions, and three that nothing uses
    found = alignment(x, x)
    assert found.components == 2 and found.effective_dimension == pytest.approx(2)


def test_bad_gradients():
    with pytest.raises(DataError, match="zero"):
        alignment(np.zeros((4, 2)), np.ones((4, 2)))
    with pytest.raises(DataError, match="not finite"):
        alignment(np.full((4, 2), np.inf), np.ones((4, 2)))


@pytest.fixture(scope="module")
def model():
    config = BagelConfig.from_dict(tiny_experiment.config().model.to_dict())
    made = Assistant(FAMILY, config, tiny_bagel.random_params(config), Tokenizer.nano())
    # What is painted does not matter here, and compiling the autoencoder would be half of the time.
    made.model.clean_latents = lambda params, batch, draws: np.zeros(draws["noise"].shape, np.float32)
    return made


@pytest.fixture(scope="module")
def both(model):
    """Gradients of three plans, the same at both places: (plans, at the norm, of the biases of q, k and v)."""
    answer = PlanItem("text", [20, 21], loss=True)
    photo, other = (PlanItem("vit_image", tiny_bagel.picture(i, 16, 16)) for i in (0, 1))
    plans = [(photo, PlanItem("text", [10, 11, 12]), answer), (other, PlanItem("text", [13]), answer)]
    plans.append((other, PlanItem("text", [14, 15]), PlanItem("vae_image", tiny_bagel.picture(2, 16, 16), loss=True)))
    place = "layers_0/und/[kqv]_proj/bias"
    found = [
        make(plans, ((16, 16),))
        for make in (gradients.activation_gradients(model, rows=3), gradients.parameter_gradients(model, place, rows=3))
    ]
    return plans, *found


def test_gradients_at_the_norm_are_those_of_the_biases_behind_it(model, both):
    """q = W h + b: the gradient of b is that of q summed over slots, and that of h is W times that of q, k and v."""
    plans, at_norm, of_biases = both
    layer = model.params["decoder"]["layers_0"]["und"]
    names = ("k_proj", "q_proj", "v_proj")  # the order of a tree's leaves
    widths = np.cumsum([layer[name]["bias"].size for name in names])
    parts = np.split(of_biases, widths[:-1], axis=1)
    through = sum(part @ layer[name]["kernel"].T for name, part in zip(names, parts))
    slots = [sum(len(i.data) + 2 if i.type == "text" else 2 + 4 * (i.type == "vit_image") for i in p) for p in plans]
    np.testing.assert_allclose(
        at_norm * np.array(slots)[:, None], through, rtol=1e-3, atol=1e-5 * np.abs(through).max()
    )
    assert (np.abs(through).max(axis=1) > 1e-6).all()


def test_own_loss_aligns_and_its_negative_opposes(both):
    at_norm = np.concatenate([both[1], both[1]])
    assert alignment(at_norm, at_norm).cosine.value == pytest.approx(1)
    assert alignment(at_norm, -at_norm).cosine.value == pytest.approx(-1)


def test_parameters_that_do_not_exist_or_do_not_fit(model, monkeypatch):
    with pytest.raises(DataError, match="no parameter matches 'nothing'"):
        gradients.parameter_gradients(model, "nothing")
    monkeypatch.setattr(gradients, "MOST_NUMBERS", 10)
    with pytest.raises(DataError, match="choose fewer"):
        gradients.parameter_gradients(model, "layers_0/und/q_proj/bias")([()], ())
