"""Muon on stacks of equal shapes against optax's, which goes matrix by matrix; alone and shared out over a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.contrib import MuonDimensionNumbers

from sgt_jax.parallel import partitioning
from sgt_jax.training.muon import scale_by_muon

SHAPES = {"a": (8, 8), "b": (8, 20), "tall": (20, 8), "c": (8, 8), "stack": (3, 8, 20), "tall stack": (2, 20, 8)}
NUMBERS = MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
ONE_BY_ONE = optax.contrib.scale_by_muon(
    beta=0.9, weight_dimension_numbers=lambda params: jax.tree.map(lambda _: NUMBERS, params)
)


def gradients(seed: int) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.standard_normal(shape), jnp.float32) for name, shape in SHAPES.items()}


def two_steps(tx):
    """The second update and the state after it."""
    state = tx.init(gradients(0))
    _, state = tx.update(gradients(1), state)
    return tx.update(gradients(2), state)


@pytest.mark.parametrize("mesh", [{}, {"data": 2, "fsdp": 2}])
def test_stacked_and_shared_out_it_is_optax_muon(mesh):
    expected = jax.jit(lambda: two_steps(ONE_BY_ONE))()
    with jax.set_mesh(partitioning.make_mesh(mesh or {"data": 1}, jax.devices()[: 4 if mesh else 1])):
        found = jax.jit(lambda: two_steps(scale_by_muon(0.9)))()
    assert jax.tree.structure(found) == jax.tree.structure(expected)  # checkpoints of either fit
    # Five steps of an iteration in float32, with sums in another order; entries are around 0.3.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


def test_every_device_iterates_on_its_share_only():
    """Products of one device in the compiled step, on one device and on four."""

    def flops(devices: int) -> float:
        mesh = partitioning.make_mesh({"data": devices}, jax.devices()[:devices])
        with jax.set_mesh(mesh):
            tree = {str(i): jax.ShapeDtypeStruct((32, 32), jnp.float32) for i in range(8)}
            tx = scale_by_muon(0.9)
            whole = jax.NamedSharding(mesh, jax.P())
            step = jax.jit(tx.update, in_shardings=(whole, whole), out_shardings=whole)
            return step.lower(tree, jax.eval_shape(tx.init, tree)).compile().cost_analysis()["flops"]

    assert flops(4) < 0.3 * flops(1)
