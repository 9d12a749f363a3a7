"""Adapters in the golden model: one of zeros changes no bit, a merged one computes the same, and a step costs less.

Slow: the golden model is compiled in three forms, and traced in four.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax import trees
from sgt_jax.models import adapting, family, int8
from sgt_jax.parity.bagel.folder import FREEZE, Folder
from sgt_jax.training.objectives import sgt
from tests.support import paths

pytestmark = pytest.mark.slow
ASKED = dict(rank=4, alpha=0.0, targets="both", dropout=0.0, rslora=False, base_dtype="")
# Rows so short that attention, which has no weights, and the autoencoder, which both steps run, do not hide the rest.
SLOTS = {"und": 16, "gen": 16, "vit": 16, "labels": 4}


def adaptation(folder):
    return adapting.adaptation(ASKED, family.by_name("bagel"), folder.config)


def test_zeros_change_no_bit_and_merged_is_unmerged():
    folder = Folder(paths.GOLDEN / "bagel")

    @jax.jit
    def outputs(params):
        found = folder.model.forward(params, folder.pack.batch, folder.pack.draws)
        return found["logits"], found["velocity"]

    found = adaptation(folder)
    zero = found.attached(folder.params, jax.random.key(0))
    plain = outputs(folder.params)
    jax.tree.map(np.testing.assert_array_equal, outputs(zero), plain)
    rng = np.random.default_rng(0)
    leaves = trees.flat(zero)
    leaves |= {
        p: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype) for p, x in leaves.items() if p.endswith("lora_b")
    }
    beside = trees.nested(leaves)
    for one, two, before in zip(outputs(beside), outputs(adapting.folded(beside)), plain, strict=True):
        largest = float(jnp.abs(one).max())
        assert float(jnp.abs(one - two).max()) <= 1e-5 * largest
        assert float(jnp.abs(one - before).max()) > 1e-2 * largest


def flops(remat, adapted):
    """By XLA's count, of loss and gradients."""
    folder = Folder(paths.GOLDEN / "bagel", remat=remat)
    shapes, freeze = jax.eval_shape(folder.model.init, jax.random.key(0)), FREEZE
    if adapted:
        shapes, freeze = jax.eval_shape(adaptation(folder).attached, shapes, jax.random.key(0)), adapting.FREEZE
    batch = {
        lane: {name: jax.ShapeDtypeStruct((8, SLOTS[lane], *x.shape[2:]), x.dtype) for name, x in fields.items()}
        for lane, fields in folder.pack.batch.items()
        if lane in SLOTS
    }
    batch["gen"]["moments"] = jax.ShapeDtypeStruct((8, SLOTS["gen"], 2 * folder.config.latent_width), jnp.float32)
    draws = jax.eval_shape(functools.partial(folder.model.draw, jax.random.key(0)), batch)

    def loss(trainable, frozen, batch, draws):
        outputs = folder.model.forward(trees.merge(trainable, frozen), batch, draws)
        return sgt.sgt_objective(outputs, batch, folder.loss_config)[0]

    step = jax.jit(jax.value_and_grad(loss))
    return step.lower(*trees.split_trainable(shapes, freeze), batch, draws).cost_analysis()["flops"]


@pytest.mark.parametrize("remat, share", [("none", 0.72), ("full", 0.80)])
def test_a_step_with_a_frozen_base_costs_less(remat, share):
    assert flops(remat, True) <= share * flops(remat, False)


def test_a_base_of_integers_computes_what_its_integers_say():
    """In the whole model, stacked layers and all; and the adapter beside them still adds what it adds."""
    folder = Folder(paths.GOLDEN / "bagel", scan_layers=True)
    found = adapting.adaptation(ASKED | {"base_dtype": "int8"}, family.by_name("bagel"), folder.config)
    held = found.attached(folder.params, jax.random.key(0))
    rng = np.random.default_rng(0)
    leaves = trees.flat(held)
    assert leaves["decoder/layers/gen/mlp/up_proj/kernel"].dtype == jnp.int8
    leaves |= {p: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype) for p, x in leaves.items() if p.endswith("lora_b")}

    @jax.jit
    def outputs(params):
        found = folder.model.forward(params, folder.pack.batch, folder.pack.draws)
        return found["logits"], found["velocity"]

    ours, plain = outputs(trees.nested(leaves)), outputs(int8.floating(trees.nested(leaves), "float32"))
    for one, two in zip(ours, plain, strict=True):
        assert float(jnp.abs(one - two).max()) <= 1e-5 * float(jnp.abs(two).max())
