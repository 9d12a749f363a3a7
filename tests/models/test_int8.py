"""A frozen base of integers: how far it is off, what products of it are, and that its whole never is floating-point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax import trees
from sgt_jax.errors import ConfigError
from sgt_jax.models import family, int8
from sgt_jax.models.layers import Linear
from sgt_jax.parallel import partitioning
from sgt_jax.training.experiment import Experiment
from tests.models.test_adapting import adaptation
from tests.support import tiny_bagel, tiny_experiment, tiny_omnigen2


def kernel(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_an_entry_is_off_by_half_a_scale_at_most():
    wide = kernel(3, 40, 12).at[1, :, 5].set(0.0)
    whole, scale = int8.quantised(wide)
    assert whole.dtype == jnp.int8 and scale.shape == (3, 12) and scale.dtype == jnp.float32
    np.testing.assert_allclose(scale, np.abs(wide).max(1) / 127 + (np.abs(wide).max(1) == 0), rtol=1e-6)
    assert np.all(np.abs(whole * scale[:, None] - wide) <= 0.501 * scale[:, None])
    assert int(jnp.abs(whole[0]).max(0).min()) == 127 and not np.any(whole[1, :, 5])
    again = int8.floating({"a": {"kernel": whole, "kernel_scale": scale}, "b": {"kernel": wide}}, "float32")
    np.testing.assert_array_equal(again["a"]["kernel"], whole * scale[:, None])
    assert again["a"].keys() == {"kernel"} and again["b"]["kernel"] is wide


@pytest.mark.parametrize("shape, width", [((3584, 18944), 512), ((18944, 3584), 128), ((3584, 512), 512), ((4, 7), 7)])
def test_blocks_divide_the_outputs(shape, width):
    assert int8.block_width(*shape) == width


def test_a_product_and_its_gradient_are_those_of_the_floating_kernel(monkeypatch):
    monkeypatch.setattr(int8, "_ENTRIES", 24 * 256)
    whole, scale = int8.quantised(kernel(24, 768))
    assert int8.block_width(24, 768) == 256
    x, target = kernel(2, 5, 24), kernel(2, 5, 768)

    def loss(x, dtype, product):
        return jnp.mean((product(x.astype(dtype)).astype(jnp.float32) - target) ** 2)

    def ours(x):
        return int8.product(x, whole, scale, None, x.dtype)

    def plain(x):
        return jnp.einsum("...i,io->...o", x, (whole * scale).astype(x.dtype))

    for dtype, bound in ((jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)):
        one, two = (jax.jit(jax.value_and_grad(loss), static_argnums=(1, 2))(x, dtype, f) for f in (ours, plain))
        np.testing.assert_allclose(one[0], two[0], rtol=bound)
        np.testing.assert_allclose(one[1], two[1], rtol=0, atol=bound * float(jnp.abs(two[1]).max()))
        assert one[1].dtype == jnp.float32


def test_the_whole_kernel_is_never_floating():
    """By XLA's own account of a program's memory, forward and backward."""
    inputs, outputs = 1024, 32768
    linear = Linear(outputs, use_bias=False, dtype=jnp.bfloat16)
    params = {"kernel": jax.ShapeDtypeStruct((inputs, outputs), jnp.int8)}
    params["kernel_scale"] = jax.ShapeDtypeStruct((outputs,), jnp.float32)

    def loss(x, params):
        return jnp.sum(linear.apply({"params": params}, x).astype(jnp.float32) ** 2)

    def peak(params):
        x = jax.ShapeDtypeStruct((8, inputs), jnp.float32)
        return jax.jit(jax.value_and_grad(loss)).lower(x, params).compile().memory_analysis().temp_size_in_bytes

    wide = inputs * outputs * 2
    assert peak(params) < wide / 2
    assert peak({"kernel": jax.ShapeDtypeStruct((inputs, outputs), jnp.float32)}) >= wide  # the test can tell


@pytest.mark.parametrize("name, count", [("bagel", 28), ("omnigen2", None)])
def test_projections_are_integers_and_their_scales_lie_as_they_do(name, count):
    config = (tiny_bagel if name == "bagel" else tiny_omnigen2).config(scan_layers=True)
    found = adaptation(config, name, base_dtype="int8")
    shapes = jax.eval_shape(lambda key: found.attached(family.by_name(name).model(config).init(key), key), jax.random.key(0))
    leaves = trees.flat(shapes)
    integers = {path for path, leaf in leaves.items() if leaf.dtype == jnp.int8}
    assert integers == found.quantised and all(path.endswith("/kernel") for path in integers)
    assert {path.removesuffix("_scale") for path in leaves if path.endswith("kernel_scale")} == integers
    modules = sum(leaves[path].shape[0] if leaves[path].ndim == 3 else 1 for path in integers)
    assert modules == count if count else modules > 30
    assert not any(word in path for path in integers for word in ("vit/", "vision/", "vae/", "embed", "head"))
    mesh = partitioning.make_mesh({"fsdp": 2, "tensor": 2}, 4)
    for path in integers:
        spec, scale = (partitioning.spec_for(p, leaves[p].shape, mesh) for p in (path, f"{path}_scale"))
        assert tuple(scale)[-1:] == tuple(spec)[-1:]


def test_without_adapters_there_is_no_frozen_base():
    config = tiny_experiment.config()
    config.adapter.base_dtype = "int8"
    with pytest.raises(ConfigError, match="base_dtype: without adapters no weights are frozen; set adapter.rank"):
        Experiment(config)
