"""Attention shares against a dense float64 softmax of the same forward; memory at 4k and 16k slots; spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.analysis.attention import allocation
from sgt_jax.analysis.spectra import spectrum
from sgt_jax.batch import TokenInfo, may_attend
from sgt_jax.models.bagel.model import Bagel
from tests.support import tiny_bagel


def dense(q, k, query, key, groups):
    """Mass and entropy [B, Q, H, C] from the whole softmax in float64."""
    q, k = np.asarray(q, np.float64), np.asarray(k, np.float64)
    k = np.repeat(k, q.shape[2] // k.shape[2], axis=2)
    scores = np.einsum("bqhd,bthd->bhqt", q, k) / np.sqrt(q.shape[-1])
    weights = np.where(np.asarray(may_attend(query, key))[:, None], np.exp(scores - scores.max(-1, keepdims=True)), 0)
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    parts = weights[..., None] * groups[:, None, None]  # [B, H, Q, T, C]
    mass = parts.sum(3)
    p = parts / np.maximum(mass, 1e-300)[..., None, :]
    entropy = -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=3)
    return np.moveaxis(mass, 1, 2), np.moveaxis(entropy, 1, 2)


@pytest.fixture(scope="module")
def forward():
    """One forward of a tiny model over two rows of packed samples, with its inner states."""
    model = Bagel(tiny_bagel.config())
    params = tiny_bagel.random_params(model.config)
    a, b, c = tiny_bagel.plans()
    batch = tiny_bagel.batch([[a, b], [c]])
    batch["gen"]["latents"] = np.zeros((*batch["gen"]["sample"].shape, model.config.latent_width), np.float32)
    names = [f"{kind}_{i}" for i in (0, 1) for kind in "qkv"]
    run = jax.jit(lambda p, x: model.forward(p, x, model.draw(jax.random.key(1), x), capture=names))
    info = TokenInfo(*(np.concatenate(p, 1) for p in zip(TokenInfo.of(batch["und"]), TokenInfo.of(batch["gen"]))))
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 2, (*info.sample.shape, 3)).astype(np.float32)
    groups[..., 2] *= rng.uniform(size=groups.shape[:2])  # keys that count in part
    return run(params, batch), info, groups


@pytest.mark.parametrize("blocks", [(128, 512), (16, 7)])
def test_shares_are_those_of_a_dense_softmax(forward, blocks):
    """1e-6: float32 keeps 6e-8 of every weight, and a share is a sum of at most 80 that is at most 1."""
    out, info, groups = forward
    for i in (0, 1):
        found = allocation.allocate(out[f"q_{i}"], out[f"k_{i}"], info, info, groups, *blocks)
        mass, entropy = dense(out[f"q_{i}"], out[f"k_{i}"], info, info, groups)
        assert mass.max() > 0.8 and mass[mass > 0].min() < 0.05  # an even softmax would hide mistakes
        np.testing.assert_allclose(found.mass, mass, atol=1e-6)
        np.testing.assert_allclose(found.entropy, entropy, atol=2e-5)
        assert not np.asarray(found.mass)[info.sample == 0].any()


def test_values_weighed_so_give_the_models_own_attention(forward):
    """With one group per key the mass is the attention map, and map times values must be what the layer computed."""
    from sgt_jax.models.attention import dense_attention

    out, info, _ = forward
    t = info.sample.shape[1]
    found = allocation.allocate(out["q_1"], out["k_1"], info, info, np.tile(np.eye(t, dtype=np.float32), (2, 1, 1)))
    v = np.repeat(np.asarray(out["v_1"]), out["q_1"].shape[2], axis=2)
    mine = np.einsum("bqht,bthd->bqhd", found.mass, v)
    theirs = dense_attention(out["q_1"], out["k_1"], out["v_1"], may_attend(info, info))
    np.testing.assert_allclose(mine, theirs, atol=2e-6)


def test_large_scores_do_not_overflow(forward):
    out, info, groups = forward
    found = allocation.allocate(40 * out["q_0"], out["k_0"], info, info, groups, 16, 7)
    mass, _ = dense(40 * np.asarray(out["q_0"], np.float64), out["k_0"], info, info, groups)
    assert np.isfinite(found.mass).all() and np.isfinite(found.entropy).all()
    # Scores of some hundred carry an error of some 1e-5 in float32, and so do the weights.
    np.testing.assert_allclose(found.mass, mass, atol=2e-4)


def test_means_over_kinds_of_queries(forward):
    out, info, groups = forward
    queries = np.array([[3, 60, 1, -1], [0, 2, -1, -1]])
    kinds = np.array([[[1, 0], [1, 1], [0, 1], [1, 1]], [[1, 0], [1, 0], [1, 0], [0, 1]]])
    found = allocation.layer_means([out["q_0"], out["q_1"]], [out["k_0"], out["k_1"]], info, queries, kinds, groups)
    mass, _ = dense(out["q_1"], out["k_1"], info, info, groups)
    np.testing.assert_allclose(found.mass[1, 0, 0], mass[0, [3, 60]].mean(0), atol=1e-6)
    np.testing.assert_allclose(found.mass[1, 0, 1], mass[0, [60, 1]].mean(0), atol=1e-6)
    np.testing.assert_allclose(found.mass[1, 1, 0], mass[1, [0, 2]].mean(0), atol=1e-6)
    assert not np.asarray(found.mass[:, 1, 1]).any()


def test_memory_does_not_grow_with_the_square_of_the_sequence():
    """Temporaries of the compiled program at 4k and at 16k slots: four times as many, not sixteen times."""

    def temporaries(slots):
        shape = jax.ShapeDtypeStruct
        info = TokenInfo(*(shape((1, slots), jnp.int32),) * 5)
        q, k = shape((1, slots, 4, 32), jnp.float32), shape((1, slots, 2, 32), jnp.float32)
        step = jax.jit(lambda q, k, info, groups: allocation.allocate(q, k, info, info, groups))
        return step.lower(q, k, info, shape((1, slots, 4), jnp.float32)).compile().memory_analysis().temp_size_in_bytes

    small, large = temporaries(4096), temporaries(16384)
    assert large < 4.4 * small
    assert large < 16384**2 * 4 / 8  # an eighth of one head's map


@pytest.mark.parametrize("hidden,rank,components", [
    (np.eye(5), 5.0, (5, 5, 5)),
    (np.ones((6, 4)), 1.0, (1, 1, 1)),
    (np.zeros((3, 4)), 0.0, (0, 0, 0)),
    (np.diag([3.0, 1.0]), np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)), (1, 2, 2)),
])  # fmt: skip
def test_spectrum_of_matrices_done_by_hand(hidden, rank, components):
    found = spectrum(hidden)
    assert found.rank == pytest.approx(rank) and found.components == components
