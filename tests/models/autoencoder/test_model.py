"""The autoencoder beyond the recorded numbers: batch independence, large pictures, fresh parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.models.autoencoder import model as autoencoder_model
from sgt_jax.models.autoencoder.model import Autoencoder, AutoencoderConfig, fresh_parameters


@pytest.fixture(scope="module")
def model():
    return Autoencoder(AutoencoderConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, z_channels=3))


@pytest.fixture(scope="module")
def params(model):
    return {"params": jax.jit(fresh_parameters, static_argnums=0)(model, jax.random.key(0))}


@pytest.fixture(scope="module")
def pictures():
    return jax.random.uniform(jax.random.key(1), (3, 12, 8, 3), minval=-1.0)


@pytest.fixture(scope="module")
def encode(model):
    """One program, not one for each operation: (params, pictures) -> moments."""
    return jax.jit(functools.partial(model.apply, method="encode"))


@pytest.fixture(scope="module")
def moments(encode, params, pictures):
    return encode(params, pictures)


def test_shapes(model, params, pictures, moments):
    assert model.config.downsample == 2
    assert moments.shape == (3, 6, 4, 6)
    decode = functools.partial(model.apply, method="decode")
    assert jax.eval_shape(decode, params, moments[..., :3]).shape == pictures.shape


def test_pictures_of_a_batch_do_not_touch(encode, params, pictures, moments):
    alone = encode(params, pictures[1:2])
    np.testing.assert_allclose(moments[1], alone[0], atol=1e-5)


def test_large_pictures_take_another_road_to_the_same_numbers(model, params, pictures, moments, monkeypatch):
    monkeypatch.setattr(autoencoder_model, "_DENSE_PIXELS", 5)
    other_road = jax.jit(lambda params, pictures: model.apply(params, pictures, method="encode"))
    assert "scan" in str(other_road.trace(params, pictures).jaxpr)
    np.testing.assert_allclose(other_road(params, pictures), moments, atol=1e-5)


def test_every_parameter_matters(model, params, pictures):
    """Each one has a gradient: nothing is built and then left out of the forward."""

    @jax.jit
    @jax.grad
    def gradients(p):
        return jnp.sum(model.apply(p, pictures) ** 2) + jnp.sum(model.apply(p, pictures, method="encode") ** 2)

    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients(params)):
        # Not all biases: a norm of one channel per group takes away what a convolution before it added.
        if "bias" not in jax.tree_util.keystr(path):
            assert np.abs(gradient).max() > 1e-6, jax.tree_util.keystr(path)


def test_fresh_parameters_differ_and_follow_the_key(model, params):
    fresh = jax.jit(fresh_parameters, static_argnums=0)
    again, other = (fresh(model, jax.random.key(k)) for k in (0, 1))
    flat = jax.tree.leaves(params["params"])
    assert all((a == b).all() for a, b in zip(flat, jax.tree.leaves(again)))
    assert any((a != b).any() for a, b in zip(flat, jax.tree.leaves(other)))
    kernels = [x.ravel()[:32] for x in flat if x.ndim == 4]
    assert len({x.tobytes() for x in map(np.asarray, kernels)}) == len(kernels)  # no two convolutions alike


def test_channels_must_fill_the_groups():
    with pytest.raises(ValueError, match="multiples of 32"):
        AutoencoderConfig(ch=48)


def test_flux_sizes():
    config = AutoencoderConfig()
    assert config.downsample == 8
    shapes = jax.eval_shape(lambda key: fresh_parameters(Autoencoder(config), key), jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 83_819_683
