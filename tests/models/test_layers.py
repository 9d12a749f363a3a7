"""Small layers: what rotation, norms, tables and time features promise beyond the recorded numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError

from sgt_jax.models import layers


def test_rotary_scores_depend_on_the_difference_of_positions_only():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 16))

    def score(a, b):
        angles = [layers.rotation(layers.rope_angles(jnp.asarray([[p]]), 16, 1e4)) for p in (a, b)]
        return jnp.sum(layers.apply_rope(q, angles[0]) * layers.apply_rope(k, angles[1]))

    np.testing.assert_allclose(score(7, 3), score(104, 100), rtol=1e-4)
    assert abs(score(7, 3) - score(8, 3)) > 1e-3


def test_rotation_pairs_channel_i_with_i_plus_half():
    x = jnp.zeros((1, 1, 1, 8)).at[..., 1].set(1.0)
    angles = layers.rope_angles(jnp.asarray([[3]]), 8, 100.0)
    turn = 3 * 100.0 ** (-2 / 8)
    expected = np.zeros(8)
    expected[[1, 5]] = np.cos(turn), np.sin(turn)
    np.testing.assert_allclose(layers.apply_rope(x, layers.rotation(angles))[0, 0, 0], expected, atol=1e-6)


def test_positions_with_three_components():
    """Each component turns its own channels, with its own frequencies."""
    position = jnp.asarray([[[5, 0, 2]]])
    angles = layers.rope_angles(position, 16, 1e4, axes=(4, 4, 8))
    parts = [layers.rope_angles(position[..., i], w, 1e4) for i, w in enumerate((4, 4, 8))]
    np.testing.assert_array_equal(angles, jnp.concatenate(parts, axis=-1))
    with pytest.raises(ValueError, match="do not fit head size 16"):
        layers.rope_angles(position, 16, 1e4, axes=(4, 4, 4))


def test_positions_are_exact_far_out():
    """Float32 angles: the fastest channel at position 30000 is right to a thousandth."""
    angle = layers.rope_angles(jnp.asarray([[30_000]]), 128, 1e6)[0, 0]
    exact = 30_000 * 1e6 ** (-np.arange(64) / 64)
    np.testing.assert_allclose(np.cos(angle), np.cos(exact), atol=5e-3)


def test_sines_are_computed_once():
    """XLA would compute them for every head, of queries and keys, forward and backward."""

    def scores(q, k, position):
        rotary = layers.rotation(layers.rope_angles(position, 16, 1e4))
        return jnp.sum(layers.apply_rope(q, rotary) * layers.apply_rope(k, rotary))

    q, k = jax.random.normal(jax.random.key(0), (2, 2, 5, 3, 16))
    position = jnp.arange(10).reshape(2, 5)
    compiled = jax.jit(jax.grad(scores, (0, 1))).lower(q, k, position).compile().as_text()
    assert compiled.count(" sine(") == compiled.count(" cosine(") == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 9, 16])
def test_any_number_of_channels_is_rotated(channels):
    angles = jax.random.normal(jax.random.key(0), (2, 3, channels))
    cosines, sines = layers.rotation(angles)
    np.testing.assert_allclose(cosines, np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(sines, np.sin(angles), atol=1e-6)


def test_a_lane_without_tokens_is_rotated():
    """Steps of generation have empty lanes."""
    cosines, sines = layers.rotation(jnp.zeros((2, 0, 16)))
    assert cosines.shape == sines.shape == (2, 0, 16)


@pytest.mark.parametrize("norm", [layers.RMSNorm, layers.LayerNorm])
def test_norm_statistics_are_float32(norm):
    """Squares of 300 overflow nothing and keep their digits, though the activations are bfloat16."""
    x = jnp.asarray([[300.0, 304.0, -300.0, 100.0]], jnp.bfloat16)
    module = norm(1e-6, jnp.bfloat16)
    out = module.apply(module.init(jax.random.key(0), x), x)
    assert out.dtype == jnp.bfloat16
    wide = np.asarray(x, np.float64)
    if norm is layers.LayerNorm:
        wide = wide - wide.mean()
    np.testing.assert_allclose(np.asarray(out, np.float64), wide / np.sqrt((wide**2).mean()), rtol=8e-3)


def test_random_codes_are_nearly_orthogonal_where_sines_are_parallel():
    def neighbour_cosine(table):
        a, b = np.asarray(table).reshape(4, 4, -1)[1, 1:3]
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    sines, codes = layers.sincos_table(4, 128), layers.random_code_table(4, 128, seed=0)
    assert sines.shape == codes.shape == (16, 128)
    # Neighbours share their row code, so 0.5 is what orthogonal column codes give.
    assert neighbour_cosine(sines) > 0.9 and abs(neighbour_cosine(codes) - 0.5) < 0.2


def test_table_rows_are_row_times_side_plus_column():
    table = np.asarray(layers.sincos_table(5, 16)).reshape(5, 5, 16)
    assert (table[:, 2, :8] == table[0, 2, :8]).all()  # first half: the column
    assert (table[3, :, 8:] == table[3, 0, 8:]).all()  # second half: the row
    np.testing.assert_allclose(table[3, 2, :8], table[2, 3, 8:])
    with pytest.raises(ValueError, match="width that 4 divides"):
        layers.sincos_table(5, 18)


def test_random_codes_follow_their_seed():
    first, again, other = (layers.random_code_table(3, 8, seed) for seed in (1, 1, 2))
    assert (first == again).all() and not (first == other).any()


def test_time_features_start_with_cosines():
    features = layers.time_features(jnp.asarray([0.0, 0.7]))
    assert features.shape == (2, 256) and features.dtype == jnp.float32
    assert (features[0, :128] == 1).all() and (features[0, 128:] == 0).all()
    np.testing.assert_allclose(features[1, [0, 128]], [np.cos(0.7), np.sin(0.7)], rtol=1e-6)


def test_time_shift_keeps_the_ends():
    t = np.asarray([0.0, 0.5, 1.0])
    np.testing.assert_allclose(layers.shift_time(t, 3.0), [0, 0.75, 1])
    np.testing.assert_array_equal(layers.shift_time(t, 1.0), t)


def test_linear_accumulates_in_float32_when_asked():
    """4096 ones and a bfloat16 input: the sum needs more digits than bfloat16 has."""
    x = jnp.ones((1, 4097), jnp.bfloat16)
    module = layers.Linear(1, use_bias=False, dtype=jnp.bfloat16, out_dtype=jnp.float32)
    assert module.apply({"params": {"kernel": jnp.ones((4097, 1))}}, x)[0, 0] == 4097


def test_gradients_of_weights_are_sums_in_float32():
    """A sum over 4097 slots is exact, though the activations are bfloat16, which has no 4097."""
    x = jnp.ones((4097, 1), jnp.bfloat16)
    module = layers.Linear(1, dtype=jnp.bfloat16)
    params = module.init(jax.random.key(0), x)["params"]
    gradients = jax.grad(lambda p: module.apply({"params": p}, x).astype(jnp.float32).sum())(params)
    assert gradients["kernel"].item() == gradients["bias"].item() == 4097
    norm = layers.RMSNorm(0.0, jnp.bfloat16)
    gradient = jax.grad(lambda s: norm.apply({"params": {"scale": s}}, x).astype(jnp.float32).sum())(jnp.ones(1))
    assert gradient.item() == 4097


def test_a_frozen_kernel_costs_no_product_backwards():
    """Scanned and recomputed as in the decoder: one product forward, one recomputed, and only those that are asked for."""

    def products(wrt):
        def loss(x, kernel):
            def layer(x, _):
                return jnp.sin(layers.product(jnp.sin(x), kernel, None, jnp.float32)), None

            return jnp.sum(jax.lax.scan(jax.checkpoint(layer), x, None, length=3)[0])

        jaxpr = jax.make_jaxpr(jax.grad(loss, wrt))(jnp.ones((2, 4)), jnp.ones((4, 4)))
        return str(jaxpr).count("dot_general[")

    assert products(0) == 3 and products(1) == products((0, 1)) == 4


def test_a_parameter_that_exists_is_taken_without_its_initialiser_and_only_in_its_shape():
    drawn = []

    def init(key, shape):
        drawn.append(shape)
        return jax.random.normal(key, shape)

    class Scaled(nn.Module):
        size: int

        @nn.compact
        def __call__(self, x):
            return x * layers.weight(self, "scale", init, (self.size,))

    params = Scaled(3).init(jax.random.key(0), jnp.ones(3))
    np.testing.assert_array_equal(Scaled(3).apply(params, jnp.ones(3)), params["params"]["scale"])
    assert drawn == [(3,)]
    with pytest.raises(ScopeParamShapeError, match="scale"):
        Scaled(4).apply(params, jnp.ones(4))


@pytest.mark.parametrize("lead", [0, 1])
def test_a_flat_draw_has_the_numbers_of_jax(lead):
    key, shape = jax.random.key(3), (5, 3, 4, 7)
    np.testing.assert_array_equal(layers.normal(key, shape, lead), jax.random.normal(key, shape))
