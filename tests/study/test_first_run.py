"""The README's first command is one arm of the registered study, with a seed of its own: what it teaches is the same."""

import json

import pytest
from sgt_jax.configs import nano_sgt
from sgt_jax.configs.study import dots

from sgt_jax.data.tasks import given_options

TRAINED_ON = ("asked", "painted", "asked_old", "drawn", "edited")
NEUTRAL = {"fixed", "strange_masks"}  # of the study's sources; here they have no other value than that


def plain(node):
    return json.loads(node.to_json_best_effort())


def mixture(data):
    """Its parts; an option that is empty is one that is not given."""
    return {name: spec | {"options": given_options(spec)} for name, spec in data["mixture"].items()}


@pytest.mark.parametrize("variant", ["", "sft"])
def test_it_trains_as_the_arm_does(variant):
    arm, ours = dots.get_config(), nano_sgt.get_config(variant)
    if variant:
        arm.update(dots.alone())
    for field in ("model", "optimizer", "schedule"):
        assert plain(ours[field]) == plain(arm[field]), field
    for field in ("total_steps", "ema_decay", "init_from", "evaluate_weights"):
        assert ours[field] == arm[field], field
    data, of_arm = plain(ours.data), plain(arm.data)
    assert mixture(data) == mixture(of_arm) and data["budgets"] == of_arm["budgets"]
    for name in TRAINED_ON:
        source = of_arm["sources"][name]
        assert data["sources"][name] == {key: value for key, value in source.items() if key not in NEUTRAL}, name
    assert not any(of_arm["sources"][name].get(key) for name in TRAINED_ON for key in NEUTRAL)
    assert (data["rows"], of_arm["rows"]) == (16, 15)  # rows must divide by two devices


def test_its_held_out_pictures_are_none_that_it_trains_on():
    sources = nano_sgt.get_config().data.sources
    for name, source in sources.items():
        assert source.split == ("test" if name.startswith("held_out") else "train"), name
