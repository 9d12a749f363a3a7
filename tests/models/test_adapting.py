"""Adapters beside the kernels of a model: what a layer computes with them, where they begin, and how they lie on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax import trees
from sgt_jax.errors import ConfigError
from sgt_jax.models import adapting, family
from sgt_jax.models.layers import Linear
from sgt_jax.parallel import partitioning
from tests.support import tiny_bagel, tiny_omnigen2

ASKED = dict(rank=2, alpha=0.0, targets="both", dropout=0.0, rslora=False, base_dtype="")


def adaptation(model=None, name="bagel", **changes):
    found = family.by_name(name)
    model = model or (tiny_bagel.config() if name == "bagel" else tiny_omnigen2.config())
    return adapting.adaptation(ASKED | changes, found, model)


def layer(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(6, 5)), "bias": rng.normal(size=5)}
    params |= {"lora_a": rng.normal(size=(6, 2)), "lora_b": rng.normal(size=(2, 5)), "lora_scale": np.array(1.5)}
    return Linear(5, dtype=dtype), {k: jnp.asarray(v, jnp.float32) for k, v in params.items()}, rng.normal(size=(7, 6))


def test_a_layer_adds_what_numpy_adds_and_an_adapter_of_zeros_changes_no_bit():
    linear, params, x = layer()
    x = x.astype(np.float32)
    p = {k: np.asarray(v) for k, v in params.items()}
    weight = p["kernel"] + p["lora_scale"] * p["lora_a"] @ p["lora_b"]  # the merge
    np.testing.assert_allclose(linear.apply({"params": params}, x), x @ weight + p["bias"], rtol=1e-5, atol=1e-5)
    folded = adapting.folded({"one": params})["one"]
    assert folded.keys() == {"kernel", "bias"}
    np.testing.assert_allclose(folded["kernel"], weight, rtol=1e-5, atol=1e-6)
    for dtype in (jnp.float32, jnp.bfloat16):
        linear, params, x = layer(dtype)
        zero = params | {"lora_b": params["lora_b"] * 0}
        plain = {k: params[k] for k in ("kernel", "bias")}
        np.testing.assert_array_equal(linear.apply({"params": zero}, x), linear.apply({"params": plain}, x))


def test_dropout_is_drawn_from_its_key_at_its_rate_and_scaled():
    linear, params, _ = layer()
    x = jnp.ones((4000, 6))
    only = params | {"kernel": params["kernel"] * 0, "bias": params["bias"] * 0}
    plain = linear.apply({"params": only}, x)
    key = {"lora_key": jax.random.key(3), "lora_rate": jnp.float32(0.25)}
    dropped = linear.apply({"params": only | key}, x)
    np.testing.assert_array_equal(dropped, linear.apply({"params": only | key}, x))
    np.testing.assert_allclose(dropped.mean(0), plain[0], atol=0.25)
    assert float(jnp.std(dropped)) > 0.5
    other = linear.apply({"params": only | key | {"lora_key": jax.random.key(4)}}, x)
    assert float(jnp.abs(dropped - other).max()) > 0.1


def test_the_backward_pass_makes_no_gradient_of_a_frozen_kernel():
    linear, params, x = layer()
    halves = {k: params[k] for k in ("lora_a", "lora_b")}
    rest = {k: params[k] for k in params if k not in halves}

    def loss(halves):
        return jnp.sum(linear.apply({"params": rest | halves}, x) ** 2)

    shapes = [v.aval.shape for eqn in jax.make_jaxpr(jax.grad(loss))(halves).eqns for v in eqn.outvars]
    assert (6, 2) in shapes and (6, 5) not in shapes


def test_a_module_begins_with_the_same_numbers_however_layers_are_kept():
    one, many = (
        adaptation(tiny_bagel.config(scan_layers=scan), targets=".*up_proj").fresh(jax.random.key(0))
        for scan in (False, True)
    )
    a = one["decoder/layers_1/gen/mlp/up_proj/lora_a"]
    np.testing.assert_array_equal(many["decoder/layers/gen/mlp/up_proj/lora_a"][1], a)
    assert a.shape == (24, 2) and 0.9 * 24**-0.5 < float(jnp.abs(a).max()) <= 24**-0.5
    assert not np.array_equal(a, one["decoder/layers_0/gen/mlp/up_proj/lora_a"])
    assert all(not np.any(leaf) for path, leaf in one.items() if path.endswith("lora_b"))
    assert {float(leaf) for path, leaf in one.items() if path.endswith("lora_scale")} == {
        2.0
    }  # alpha is twice the rank


@pytest.mark.parametrize("name, und, gen", [("bagel", 14, 14), ("omnigen2", 7, 16)])
def test_targets_name_the_layers_that_read_and_those_that_paint(name, und, gen):
    counts = {
        targets: sum(len(place.modules) for place in adaptation(name=name, targets=targets).places.values())
        for targets in ("und", "gen", "both")
    }
    assert counts == {"und": und, "gen": gen, "both": und + gen}
    some = adaptation(name=name, targets=r".*layers\.0\..*(q_proj|to_q)").places
    assert some and all(path.endswith("q_proj") for path in some)


@pytest.mark.parametrize(
    "changes, model, words",
    [
        (dict(targets="q_proj"), {}, "names no linear layer of this model; choose und, gen, both, or a regular expr"),
        (dict(targets="(("), {}, "is no regular expression"),
        (dict(targets=r".*layers\.0\..*q_proj"), dict(scan_layers=True), "names 1 of 2 layers of decoder/layers/und/q_proj"),
        (dict(targets="both"), dict(freeze_und=True), "config.model.freeze_und keeps gradients from language_model"),
        (dict(base_dtype="fp4"), {}, "base_dtype='fp4': choose one of"),
    ],
)  # fmt: skip
def test_what_cannot_be_adapted_is_one_line(changes, model, words):
    with pytest.raises(ConfigError, match=words):
        adaptation(tiny_bagel.config(**model), **changes)


def test_adapters_lie_on_a_mesh_as_the_kernels_beside_them():
    mesh = partitioning.make_mesh({"fsdp": 2, "tensor": 4}, 8)
    spec = {
        path: tuple(partitioning.spec_for(f"opt_state/mu/{path}", shape, mesh))
        for path, shape in {
            "gen/q_proj/lora_a": (28, 64, 2), "gen/q_proj/lora_b": (28, 2, 64), "und/mlp/down_proj/lora_a": (64, 2),
            "und/mlp/down_proj/lora_b": (2, 64), "und/o_proj/lora_scale": (28,), "vae2llm/lora_a": (64, 2),
        }.items()
    }  # fmt: skip
    embed, heads = "fsdp", "tensor"
    assert spec == {
        "gen/q_proj/lora_a": (None, embed, None), "gen/q_proj/lora_b": (None, None, heads),
        "und/mlp/down_proj/lora_a": (heads, None), "und/mlp/down_proj/lora_b": (None, embed),
        "und/o_proj/lora_scale": (), "vae2llm/lora_a": (),
    }  # fmt: skip


def test_the_fingerprint_of_a_base_sees_every_number_and_no_adapter():
    rng = np.random.default_rng(0)
    base = {"a": {"kernel": jnp.asarray(rng.normal(size=(5, 7)), jnp.float32)}, "b": jnp.arange(4.0)}
    first = adapting.checksum(base, "float32")
    leaves = trees.flat(base)
    assert first == adapting.checksum(trees.nested(leaves | {"a/lora_a": jnp.ones(3)}), "float32")
    for path, leaf in leaves.items():
        for place in range(leaf.size):
            changed = leaf.ravel().at[place].add(0.001).reshape(leaf.shape)
            assert adapting.checksum(trees.nested(leaves | {path: changed}), "float32") != first
    swapped = leaves["b"][jnp.array([1, 0, 2, 3])]
    assert adapting.checksum(trees.nested(leaves | {"b": swapped}), "float32") != first
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), base)
    assert adapting.checksum(half, "bfloat16") == adapting.checksum(base, "bfloat16") != first


@pytest.mark.parametrize("name", ["bagel", "omnigen2"])
@pytest.mark.parametrize("scan", [False, True])
def test_a_files_modules_are_the_layers_that_their_names_say(name, scan):
    found = family.by_name(name)
    model = (tiny_bagel if name == "bagel" else tiny_omnigen2).config(scan_layers=scan)
    made, rng, kept = adaptation(model, name), np.random.default_rng(0), {}

    def read(path, layer):
        place = made.places[path.rpartition("/")[0]]
        shape = (place.inputs, 2) if path.endswith("lora_a") else (2, place.outputs)
        return kept.setdefault((path, layer), rng.normal(size=shape))

    lows, known = made.lows(read), found.linears(model)
    for module, low in lows.items():
        source = known[module]
        own = source.path.removesuffix("kernel")
        np.testing.assert_array_equal(low.a.T, kept[own + "lora_a", source.layer])
        np.testing.assert_array_equal(low.b.T, kept[own + "lora_b", source.layer])
        assert (low.b.shape[0], low.a.shape[1]) == source.shape
    assert len(kept) == 2 * len(lows) and made.settings.adapts(next(iter(lows)))
