"""Schedules, clipping, who is trained by what, freezing by path, the moving average."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sgt_jax import trees
from sgt_jax.training import optimizer
from sgt_jax.training import step as training_step


def settings(name="adamw", schedule="constant", total=100, **changes):
    fields = dict(learning_rate=0.1, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.0, clip=0.0,
                  muon_learning_rate=0.02, muon_momentum=0.95)  # fmt: skip
    return types.SimpleNamespace(
        total_steps=total,
        optimizer=types.SimpleNamespace(name=name, **{**fields, **changes}),
        schedule=types.SimpleNamespace(name=schedule, warmup_steps=10, final_fraction=0.1, decay_fraction=0.4),
    )


def tree(seed=0, layers=3):
    keys = iter(jax.random.split(jax.random.key(seed), 40))

    def normal(*shape):
        return jax.random.normal(next(keys), shape)

    return {
        "decoder": {
            "embed": {"embedding": normal(9, 4)},
            **{
                f"layers_{i}": {
                    "und": {"q_proj": {"kernel": normal(4, 6), "bias": normal(6)}, "norm": {"scale": normal(6)}}
                }
                for i in range(layers)
            },
            "lm_head": {"kernel": normal(4, 9)},
        },
        "vit_pos_embed": {"table": normal(4, 4)},
        "vae": {"encoder": {"conv_in": {"kernel": normal(3, 3, 3, 4)}}},
    }


# -- Schedules ---------------------------------------------------------------------------------------------------------


def test_warm_up_starts_at_zero_and_reaches_the_peak_at_warmup_steps():
    rate = optimizer.schedule(settings())
    assert rate(0) == 0
    np.testing.assert_allclose([rate(1), rate(5), rate(10), rate(99)], [0.01, 0.05, 0.1, 0.1], rtol=1e-6)


def test_warmup_stable_decay():
    rate = optimizer.schedule(settings(schedule="warmup_stable_decay"))
    np.testing.assert_allclose([rate(10), rate(60), rate(80), rate(100)], [0.1, 0.1, 0.055, 0.01], rtol=1e-5)


def test_cosine_ends_at_the_final_fraction():
    rate = optimizer.schedule(settings(schedule="cosine"))
    np.testing.assert_allclose([rate(10), rate(55), rate(100), rate(500)], [0.1, 0.055, 0.01, 0.01], rtol=1e-5)


def test_no_warm_up():
    config = settings()
    config.schedule.warmup_steps = 0
    np.testing.assert_allclose(optimizer.schedule(config)(0), 0.1, rtol=1e-6)


@pytest.mark.parametrize("bad", [settings(schedule="linear"), settings(name="sgd")])
def test_unknown_names(bad):
    with pytest.raises(ValueError, match="does not exist; choose"):
        optimizer.make_optimizer(bad)


# -- Clipping ----------------------------------------------------------------------------------------------------------


def test_clipping_uses_the_norm_of_all_gradients_together():
    tx = optimizer.clip_by_norm(1.0)
    big = {"a": jnp.asarray([3.0]), "b": jnp.asarray([4.0])}
    clipped, _ = tx.update(big, tx.init(big))
    np.testing.assert_allclose([clipped["a"][0], clipped["b"][0]], np.array([3, 4]) / (5 + 1e-6), rtol=1e-6)
    small = {"a": jnp.asarray([0.3]), "b": jnp.asarray([0.4])}
    kept, _ = tx.update(small, tx.init(small))
    assert kept["a"][0] == small["a"][0]


def test_first_step_changes_nothing():
    """The reference's first step has learning rate 0."""
    params = tree()
    for name in ("adamw", "muon"):
        tx = optimizer.make_optimizer(settings(name))
        updates, _ = jax.jit(tx.update)(tree(1), tx.init(params), params)
        assert all((np.asarray(u) == 0).all() for u in jax.tree.leaves(updates))


# -- Muon --------------------------------------------------------------------------------------------------------------


def second_step(config, params, gradients):
    """Updates of the first step with a learning rate above zero."""
    tx = optimizer.make_optimizer(config)
    update = jax.jit(tx.update)
    _, state = update(gradients, tx.init(params), params)
    return update(gradients, state, params)[0]


def test_muon_trains_block_matrices_and_adamw_the_rest():
    params, gradients = tree(), tree(1)
    muon, adamw = (second_step(settings(name), params, gradients) for name in ("muon", "adamw"))
    for path, update in jax.tree_util.tree_leaves_with_path(muon):
        name = jax.tree_util.keystr(path)
        other = adamw
        for key in path:
            other = other[key.key]
        if "layers" in name and "kernel" in name:
            # Nearly orthogonal: all singular values are about the step, here 0.1 of the peak, times sqrt(6/4).
            values = np.linalg.svd(np.asarray(update), compute_uv=False) / (0.02 * 0.1 * 1.5**0.5)
            assert (0.5 < values).all() and (values < 1.4).all(), name
        else:
            np.testing.assert_allclose(update, other, rtol=1e-6, err_msg=name)


def test_muon_treats_every_layer_of_a_stack_alone():
    def stacked(tree_):
        layers = [tree_["decoder"].pop(f"layers_{i}") for i in range(3)]
        tree_["decoder"]["layers"] = jax.tree.map(lambda *x: jnp.stack(x), *layers)
        return tree_

    config = settings("muon")
    apart = second_step(config, tree(), tree(1))
    together = second_step(config, stacked(tree()), stacked(tree(1)))
    for i in range(3):
        got = jax.tree.map(lambda x: x[i], together["decoder"]["layers"])  # noqa: B023
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(apart["decoder"][f"layers_{i}"])):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_muon_decays_weights_at_its_own_rate():
    params = tree()
    plain = second_step(settings("muon"), params, tree(1))
    decayed = second_step(settings("muon", weight_decay=0.5), params, tree(1))
    kernel = lambda t: t["decoder"]["layers_0"]["und"]["q_proj"]["kernel"]  # noqa: E731
    np.testing.assert_allclose(kernel(decayed), kernel(plain) - 0.002 * 0.5 * kernel(params), atol=1e-6)


# -- Freezing ----------------------------------------------------------------------------------------------------------


def test_split_and_merge():
    params = tree()
    trainable, frozen = trees.split_trainable(params, ("^vae/", "pos_embed", "/und/.*bias$"))
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(frozen)}
    assert names == {"['vae']['encoder']['conv_in']['kernel']", "['vit_pos_embed']['table']"} | {
        f"['decoder']['layers_{i}']['und']['q_proj']['bias']" for i in range(3)
    }
    assert "vae" not in trainable and "bias" not in trainable["decoder"]["layers_0"]["und"]["q_proj"]
    merged = trees.merge(trainable, frozen)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    assert all(a is b for a, b in zip(jax.tree.leaves(merged), jax.tree.leaves(params)))


def test_merge_prefers_the_first():
    first, second = {"a": {"x": 1}}, {"a": {"x": 2, "y": 3}, "b": 4}
    assert trees.merge(first, second) == {"a": {"x": 1, "y": 3}, "b": 4}
    assert second == {"a": {"x": 2, "y": 3}, "b": 4}


def test_nothing_frozen_and_everything_frozen():
    params = tree()
    assert trees.split_trainable(params, ())[1] == {}
    assert trees.split_trainable(params, ("",))[0] == {}


def test_a_pattern_that_matches_nothing_is_an_error():
    """Otherwise a typing error would train what was meant to stay."""
    with pytest.raises(ValueError, match="'\\^vea/' matches no parameter path"):
        trees.split_trainable(tree(), ("^vea/",))


def test_frozen_parameters_have_no_optimizer_state():
    trainable, _ = trees.split_trainable(tree(), ("^vae/", "pos_embed", "embedding", "lm_head"))
    state = optimizer.make_optimizer(settings("adamw")).init(trainable)
    moments = sum(x.size for x in jax.tree.leaves(state) if x.ndim)
    assert moments == 2 * sum(x.size for x in jax.tree.leaves(trainable))


# -- Average -----------------------------------------------------------------------------------------------------------


def test_moving_average():
    ema, params = {"a": jnp.asarray(1.0)}, {"a": jnp.asarray(3.0)}
    np.testing.assert_allclose(training_step.update_ema(ema, params, 0.9)["a"], 1.2, rtol=1e-6)


def test_it_optimises():
    """A few steps of either optimizer lower a quadratic loss."""
    target = tree(2)
    for name in ("adamw", "muon"):
        tx = optimizer.make_optimizer(settings(name, clip=1.0))
        params = tree(3)

        @jax.jit
        def step(params, state, tx=tx):
            def loss(p):
                return sum(jnp.sum((a - b) ** 2) for a, b in zip(jax.tree.leaves(p), jax.tree.leaves(target)))

            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = tx.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, value

        state, values = tx.init(params), []
        for _ in range(30):
            params, state, value = step(params, state)
            values.append(float(value))
        assert values[-1] < 0.5 * values[0]
