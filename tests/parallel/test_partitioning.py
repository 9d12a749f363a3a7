"""The mesh changes where numbers are computed, not what they are; and the sharding table refuses what cannot be split."""

import json
import socket
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from sgt_jax import trees
from sgt_jax.models import lanes, stack
from sgt_jax.parallel import partitioning
from sgt_jax.training import experiment, loop, optimizer
from sgt_jax.training import state as state_lib
from sgt_jax.training import step as training_step
from tests.support import golden_rows, tiny_experiment
from tests.support.paths import REPOSITORY, helper

# Every pair of axes beside each other; the golden has 2 key-value heads, so `tensor` is at most 2.
MESHES = [
    {"data": 8},
    {"fsdp": 8},
    {"fsdp": 4, "fsdp_transpose": 2},
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"fsdp": 2, "fsdp_transpose": 2, "tensor": 2},
    {"data": 2, "fsdp_transpose": 2, "context": 2},
    {"data": 2, "tensor": 2, "context": 2},
    {"fsdp": 2, "tensor": 2, "context": 2},
    {"fsdp": 2, "context": 4},
]


# Those of OmniGen2's golden, whose two towers have 2 key-value heads, too.
FEW_MESHES = [
    {"data": 2, "fsdp": 4},
    {"fsdp": 2, "fsdp_transpose": 2, "tensor": 2},
    {"data": 4, "context": 2},
    {"fsdp": 2, "tensor": 2, "context": 2},
]
PROGRAMS = {"bagel": "golden_rows", "omnigen2": "omnigen2_rows"}


def equals_golden(found, family="bagel"):
    """BAGEL's errors are relative to the largest entry; the golden itself is 1.2e-6 from the same computation in double.
    OmniGen2's are beside the bounds of its golden's README."""
    arrays, worst = {"bagel": (162, 1e-5), "omnigen2": (5, 1.0)}[family]
    assert found["arrays"] == arrays
    assert found["loss"] <= 1e-5 and found["worst"] <= worst, found


def children(shapes, processes=1, family="bagel"):
    """A family's golden in rows, in real processes with 8 virtual devices together; what each printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    command = helper(PROGRAMS[family], json.dumps(shapes))
    started = [
        subprocess.Popen(
            [*command, *([coordinator, str(processes), str(i)] if processes > 1 else [])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
        )
        for i in range(processes)
    ]  # fmt: skip
    found = []
    try:
        for process in started:
            out, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors[-3000:]
            found.append([json.loads(line) for line in out.splitlines() if line.startswith("{")])
    finally:
        for process in started:
            process.kill()
    return found


@pytest.fixture(scope="module")
def golden():
    return golden_rows.Golden(scan_layers=True)


@pytest.mark.parametrize("shape", [{"fsdp": 2, "context": 2}, {"data": 2, "tensor": 2}])
def test_samples_in_rows_of_their_own_equal_the_golden_on_four_devices(golden, shape):
    equals_golden(golden.errors(shape, jax.devices()[:4]))


@pytest.mark.slow
@pytest.mark.parametrize("family, meshes", [("bagel", MESHES), ("omnigen2", FEW_MESHES)], ids=list(PROGRAMS))
def test_every_mesh_of_eight_devices_equals_the_golden(family, meshes):
    (found,) = children(meshes, family=family)
    assert len(found) == len(meshes)
    for one in found:
        equals_golden(one, family)


@pytest.mark.slow
@pytest.mark.parametrize("family, processes, shape", [
    ("bagel", 2, {"data": 2, "fsdp": 4}),
    ("bagel", 4, {"fsdp": 2, "tensor": 2, "context": 2}),  # two processes read the same rows
    ("omnigen2", 2, {"data": 2, "fsdp": 4}),
])  # fmt: skip
def test_real_processes_equal_the_golden(family, processes, shape):
    for (found,) in children([shape], processes, family):
        equals_golden(found, family)


def test_a_part_of_the_golden_that_is_wrong_is_noticed(golden):
    """The comparison would see a single slot that attends to the wrong sample."""
    row = golden.batch["und"]["sample"][0]
    assert row[0] > 0
    row[0], before = 0, row[0]
    try:
        found = golden.errors({"data": 2, "tensor": 2}, jax.devices()[:4])
    finally:
        row[0] = before
    assert found["worst"] > 1e-3


def test_every_large_parameter_is_sharded_by_the_table():
    task = experiment.build(tiny_experiment.config())
    mesh = partitioning.make_mesh({"fsdp": 4}, jax.devices()[:4])
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        name = trees.path_name(path)
        if name.startswith("decoder") and len(leaf.shape) == 2:
            assert partitioning.spec_for(name, leaf.shape, mesh) != P(), name


def test_a_second_axis_cuts_the_other_dimension_where_it_divides_it():
    mesh = partitioning.make_mesh({"fsdp": 2, "fsdp_transpose": 4, "tensor": 2}, 16)

    def spec(name, *shape):
        return partitioning.spec_for(f"decoder/layers_0/und/{name}/kernel", shape, mesh)

    assert spec("q_proj", 6, 16) == P(("fsdp",), ("tensor", "fsdp_transpose"))
    assert spec("down_proj", 16, 6) == P(("tensor", "fsdp_transpose"), ("fsdp",))
    assert spec("q_proj", 6, 12) == P(("fsdp",), ("tensor",))  # 12 is not divided by 8
    assert partitioning.shards("rows", mesh) == 8


def test_impossible_meshes_are_one_line_errors():
    devices = jax.devices()[:4]
    with pytest.raises(ValueError, match="needs 3 devices, here are 4"):
        partitioning.make_mesh({"data": 3}, devices)
    with pytest.raises(ValueError, match="unknown mesh axes"):
        partitioning.make_mesh({"rows": 4}, devices)
    mesh = partitioning.make_mesh({"tensor": -1}, devices)
    assert mesh.shape["tensor"] == 4
    with pytest.raises(ValueError, match="fsdp.*do not divide 6 .* cut the other dimension, too, with mesh.fsdp_transpose"):
        partitioning.spec_for("decoder/layers_0/und/k_proj/kernel", (6, 8), partitioning.make_mesh({"fsdp": 4}, devices))
    with pytest.raises(ValueError, match="do not divide 6"):
        partitioning.spec_for("decoder/layers_0/und/k_proj/kernel", (8, 6), mesh)
    with pytest.raises(ValueError, match="use a multiple of 4"):
        partitioning.check_rows(6, partitioning.make_mesh({"data": 2, "fsdp": 2}, devices))
    with pytest.raises(ValueError, match=r"rows=4 .* 2 micro-batches .* use a multiple of 8"):
        partitioning.check_rows(4, partitioning.make_mesh({"data": 4}, devices), accumulate=2)


@pytest.mark.parametrize("shape, words", [
    ({"tensor": 2}, "tensor=2 does not divide the decoder's key-value heads (1); change one of the two"),
    ({"context": 4}, "context=4 does not divide config.data.budgets.vit (6); change one of the two"),
])  # fmt: skip
def test_a_mesh_that_the_model_or_its_lanes_cannot_follow_is_one_line(tmp_path, shape, words):
    config = tiny_experiment.config(mesh={**shape, "data": -1})
    config.data.budgets.vit = 6
    with pytest.raises(ValueError) as caught:
        loop.train(config, str(tmp_path))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_that_splits_two_dimensions_over_one_axis_is_refused(monkeypatch):
    monkeypatch.setattr(partitioning, "PARAMETERS", ((r"kernel$", ("embed", "embed")),))
    mesh = partitioning.make_mesh({"fsdp": 4}, jax.devices()[:4])
    with pytest.raises(ValueError, match="splits two dimensions of a/kernel"):
        partitioning.spec_for("a/kernel", (8, 8), mesh)


def test_rows_go_to_the_devices_that_hold_them_in_any_order():
    """TPU meshes permute devices; a process's rows need not be neighbours."""
    devices = [jax.devices()[i] for i in (2, 0, 3, 1)]
    mesh = partitioning.make_mesh({"data": 2, "tensor": 2}, devices)
    assert partitioning.own_rows(6, mesh) == [0, 1, 2, 3, 4, 5]
    batch = {"a": {"x": np.arange(12).reshape(6, 2)}}
    placed = partitioning.to_devices(batch, mesh)["a"]["x"]
    np.testing.assert_array_equal(np.asarray(placed), batch["a"]["x"])
    assert placed.sharding.spec == P(("data", "fsdp", "fsdp_transpose")) and placed.addressable_shards[0].data.shape == (3, 2)


def test_lanes_are_joined_part_by_part_and_taken_apart_again():
    und, gen = jnp.arange(8)[None] + jnp.zeros((2, 1), int), 100 + jnp.arange(4)[None] + jnp.zeros((2, 1), int)
    with jax.set_mesh(partitioning.make_mesh({"data": 2, "context": 2}, jax.devices()[:4])):
        joined = lanes.join([und, gen])
        assert joined[0].tolist() == [0, 1, 2, 3, 100, 101, 4, 5, 6, 7, 102, 103]
        for got, expected in zip(lanes.split(joined, [8, 4]), (und, gen)):
            np.testing.assert_array_equal(got, expected)
        assert lanes.in_order(joined, [8, 4])[0].tolist() == und[0].tolist() + gen[0].tolist()
        # A lane that cannot be cut up is joined as without a mesh.
        assert lanes.join([und[:, :3], gen])[0].tolist() == [0, 1, 2, 100, 101, 102, 103]


def test_the_state_is_cut_up_and_frozen_parts_cost_no_optimizer_state():
    config = tiny_experiment.config()
    task = experiment.build(config)
    tx = optimizer.make_optimizer(config)
    mesh = partitioning.make_mesh({"fsdp": 4}, jax.devices()[:4])

    def create(key):
        return state_lib.create(task.init(key), tx, tuple(config.freeze), True)

    shapes = jax.eval_shape(create, jax.random.key(0))
    shardings = partitioning.tree_shardings(shapes, mesh)
    found = 0
    for (path, leaf), sharding in zip(jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(shardings)):
        name = trees.path_name(path)
        if name.endswith("decoder/layers_0/gen/mlp/down_proj/kernel"):
            found += 1
            assert sharding.shard_shape(leaf.shape) == (48, 8), name
        if name.startswith(("opt_state", "ema")):
            assert "/vae/" not in name and "pos_embed/table" not in name, name
    assert found >= 3  # the parameter, its average, its momentum


@pytest.mark.slow  # it compiles five steps of its own
@pytest.mark.parametrize("family", tiny_experiment.FAMILIES)
def test_micro_batches_add_up_to_the_whole_step(family):
    """With counts that differ from part to part, so that a mean of means would be seen."""
    config = tiny_experiment.FAMILIES[family]()
    task = experiment.build(config)
    host_batch, _ = next(iter(task.batches()))
    host_batch["labels"]["weight"][0, 3:] = 0
    host_batch["gen"]["noisy" if family == "bagel" else "sample"][1, ::2] = 0
    params = task.init(jax.random.key(0))
    key = jax.random.key(3)

    def step(parts):
        def run(params, batch):
            return training_step.value_and_grad(lambda p, **part: task.loss(p, batch, key, **part), params, parts)

        return jax.jit(run, compiler_options=golden_rows.QUICK)

    (loss, metrics), gradients = step(1)(params, host_batch)
    mesh = partitioning.make_mesh({"data": 2}, jax.devices()[:2])
    with jax.set_mesh(mesh):
        (loss_2, metrics_2), gradients_2 = step(2)(params, partitioning.to_devices(host_batch, mesh))
    assert abs(float(loss) - float(loss_2)) <= 1e-6 * float(loss)
    assert set(metrics) == set(metrics_2)
    for name in metrics:
        np.testing.assert_allclose(metrics[name], metrics_2[name], rtol=2e-6, err_msg=name)
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradients))
    # Sums in another order: float32 rounding, relative to each array's largest entry (tiny arrays: to the largest of all).
    for one, two in zip(jax.tree.leaves(gradients), jax.tree.leaves(gradients_2)):
        assert float(jnp.abs(one - two).max()) <= 1e-5 * float(jnp.abs(one).max()) + 1e-8 * largest


def test_remat_policies_give_the_same_gradients_and_refuse_what_the_device_lacks():
    class Layer(stack.nn.Module):
        @stack.nn.compact
        def __call__(self, x, per_layer):
            x = stack.layer_input(x)
            return jnp.tanh(stack.nn.Dense(8)(x)) + x, None

    class Model(stack.nn.Module):
        remat: str

        @stack.nn.compact
        def __call__(self, x):
            return stack.run_layers(Layer, {}, 3, True, self.remat, x, None)[0].sum()

    x = jnp.linspace(0, 1, 32).reshape(4, 8)
    params = Model("none").init(jax.random.key(0), x)
    expected = jax.jit(jax.grad(Model("none").apply))(params, x)
    for remat in stack.REMAT:
        step = jax.jit(jax.grad(Model(remat).apply))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), step(params, x), expected)
        assert ("<host>[" in str(step.trace(params, x).jaxpr)) == remat.endswith("offload"), remat

    class Bare:
        platform = "toaster"

        @staticmethod
        def addressable_memories():
            return ()

    stack.check_remat("dots", Bare)
    with pytest.raises(ValueError, match="remat='full_offload' needs pinned_host memory, but toaster"):
        stack.check_remat("full_offload", Bare)
