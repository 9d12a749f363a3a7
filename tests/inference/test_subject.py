"""A checkpoint answers and paints for evaluators as it does for people, and says what it has not."""

import numpy as np
import pytest

from sgt_jax.data import packing
from sgt_jax.errors import DataError
from sgt_jax.evaluation import evaluators
from sgt_jax.inference import load
from sgt_jax.inference.subject import CheckpointSubject

SCENES = {
    "held_out": dict(type="scenes", seed=20, size=32, split="test", num=40, turns=1),
    "asked": dict(type="scenes", seed=20, size=32, split="train", num=40, turns=1),
}
DRAWN = dict(steps=2, shift=2.0, batch=2, seed=1, show=2, text_scale=1.0)


@pytest.fixture(scope="module")
def subject():
    return CheckpointSubject(load.load("package:nano"), SCENES, ((32, 32),))


@pytest.fixture(scope="module")
def params(subject):
    return subject._assistant.params


def test_a_checkpoint_is_scored_by_the_evaluators_of_a_run(subject, params, monkeypatch):
    stacked, stack = [], packing.stack_samples

    def noted(laid, spec, budgets):
        stacked.append(budgets)
        return stack(laid, spec, budgets)

    monkeypatch.setattr(packing, "stack_samples", noted)
    options = dict(source="held_out", n=16, train_source="asked", train_n=16, max_new_tokens=2, batch=16)
    answers = evaluators.by_name("answers")(subject, options)(params)
    assert (
        len(answers.items["accuracy"]) == 16 and np.mean(answers.items["accuracy"]) > 0.3
    )  # the nano model knows some
    assert stacked and all(0 < budgets["vit"] < 64 for budgets in stacked)  # a batch of 16 is not padded to SMALLEST
    drawn = evaluators.by_name("drawings")(subject, dict(source="held_out", n=2, **DRAWN))(params)
    assert drawn.rows[0][0].shape == (32, 32, 3)


def test_what_a_checkpoint_lacks_is_said(subject, params):
    with pytest.raises(DataError, match="no source 'train'; there are held_out, asked"):
        subject.source("train")
    with pytest.raises(DataError, match="no training mixture"):
        subject.held_out_batches("held_out", 1)
    with pytest.raises(DataError, match="no objective"):
        subject.losses(params, {}, 0)
