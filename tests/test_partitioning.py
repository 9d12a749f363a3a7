"""The mesh changes where numbers are computed, not what they are; and the sharding table refuses what cannot be split."""

import jax
import numpy as np
import pytest
import tiny_experiment
from jax.sharding import PartitionSpec as P

from sgt_jax import experiment, optimizer, partitioning


def test_losses_and_gradients_do_not_depend_on_the_mesh():
    config = tiny_experiment.config()
    task = experiment.build(config)
    host_batch, _ = next(iter(task.batches()))
    params = task.init(jax.random.key(0))

    def step(params, batch):
        trainable, frozen = optimizer.split_trainable(params, tuple(config.freeze))
        return jax.value_and_grad(lambda t: task.loss(optimizer.merge(t, frozen), batch, jax.random.key(3))[0])(
            trainable
        )

    found = []
    for shape, count in (({}, 1), ({"data": 2, "fsdp": 2}, 4)):
        mesh = partitioning.make_mesh(shape, jax.devices()[:count])
        placed = jax.device_put(params, partitioning.tree_shardings(params, mesh))
        if count == 4:
            kernel = placed["decoder"]["layers_0"]["und"]["q_proj"]["kernel"]
            assert kernel.sharding.spec == P(("fsdp",), None) and kernel.addressable_shards[0].data.shape == (16, 32)
        loss, gradients = jax.jit(step)(placed, partitioning.to_devices(host_batch, mesh))
        found.append((float(loss), jax.device_get(gradients)))
    (one, gradients_one), (four, gradients_four) = found
    assert abs(one - four) <= 1e-6 * abs(one)
    largest = max(float(np.abs(g).max()) for g in jax.tree.leaves(gradients_one))
    jax.tree.map(
        # Sums over rows are added in another order: float32 rounding of the largest entries.
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6 * largest), gradients_one, gradients_four
    )  # fmt: skip


def test_every_large_parameter_is_sharded_by_the_table():
    task = experiment.build(tiny_experiment.config())
    mesh = partitioning.make_mesh({"fsdp": 4}, jax.devices()[:4])
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        name = partitioning.path_name(path)
        if name.startswith("decoder") and len(leaf.shape) == 2:
            assert partitioning.spec_for(name, leaf.shape, mesh) != P(), name


def test_impossible_meshes_are_one_line_errors():
    devices = jax.devices()[:4]
    with pytest.raises(ValueError, match="needs 3 devices, here are 4"):
        partitioning.make_mesh({"data": 3}, devices)
    with pytest.raises(ValueError, match="unknown mesh axes"):
        partitioning.make_mesh({"rows": 4}, devices)
    mesh = partitioning.make_mesh({"tensor": -1}, devices)
    assert mesh.shape["tensor"] == 4
    with pytest.raises(ValueError, match="do not divide 6"):
        partitioning.spec_for("decoder/layers_0/und/k_proj/kernel", (8, 6), mesh)
    with pytest.raises(ValueError, match="use a multiple of 4"):
        partitioning.check_rows(6, partitioning.make_mesh({"data": 2, "fsdp": 2}, devices))
