"""How a checkpoint is opened for sampling, and how its pictures are decoded."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.inference import load, sampler
from sgt_jax.models import family as families
from tests.support import toy_family


def test_attention_is_chosen_here_whatever_made_the_checkpoint():
    assert load.load("package:nano").config.attention == "auto"  # its sgt_config.json says "xla"
    assert load.computing(families.by_name("omnigen2"), "float32") == {"dtype": "float32", "attention": "auto"}
    assert load.computing(toy_family.ToyFamily(), "float32") == {"dtype": "float32"}  # it has no such field


@pytest.mark.parametrize("limit, decoded", [(4 * 4, 1), (2 * 4 * 4, 2), (100 * 4 * 4, 3)])
def test_large_pictures_are_decoded_a_few_at_a_time_and_come_out_the_same(monkeypatch, limit, decoded):
    seen = []

    def decode(params, z):
        seen.append(len(z))
        return (params * z.repeat(2, 1).repeat(2, 2)).astype(jnp.uint8)

    steps = types.SimpleNamespace(decode=decode)
    latents = jnp.arange(3 * 2 * 2 * 3.0).reshape(3, 2, 2, 3)
    whole = np.asarray(decode(2.0, latents))
    monkeypatch.setattr(sampler, "_SHOWN_AT_ONCE", limit)
    found = jax.jit(lambda z: sampler.show(steps, 2.0, z))(latents)
    np.testing.assert_array_equal(found, whole)
    # Without a batch axis of its own, a mapped call sees one picture; jax.vmap makes them several.
    assert seen[-1] == (3 if decoded == 3 else 1)
    memory = jax.make_jaxpr(lambda z: sampler.show(steps, 2.0, z))(latents).pretty_print()
    assert ("scan" in memory) == (decoded < 3)
