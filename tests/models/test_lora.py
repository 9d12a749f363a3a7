"""Adapters on the parameters of a model: the sums are NumPy's, the base is shared, both families name their modules."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.checkpoints import adapters, adapters_out
from sgt_jax.checkpoints.adapters import Adapter
from sgt_jax.checkpoints.exporting import published_arrays
from sgt_jax.errors import CheckpointError
from sgt_jax.inference import load
from sgt_jax.models import family, lora
from sgt_jax.models.bagel.names import MODEL_FILE, name_map
from tests.support import tiny_bagel, tiny_omnigen2
from tests.support.paths import REPOSITORY
from tests.support.random_adapter import RULES, random_adapter


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("dora", [False, True])
def test_the_sums_are_numpys_and_nothing_else_changes(scan, dora):
    bagel = family.by_name("bagel")
    config = tiny_bagel.config().replace(scan_layers=scan)
    params = bagel.model(config).init(jax.random.key(0))
    modules = bagel.linears(config)
    adapter = random_adapter(modules, RULES._replace(dora=dora), dora)
    assert len(adapter.modules) >= 3 * config.llm.num_hidden_layers
    names = name_map(config, MODEL_FILE)
    before, after = (
        published_arrays(tree, names) for tree in (params, lora.merged(params, modules, adapter, 0.5))
    )
    for name, weight in before.items():
        low = adapter.modules.get(name.removesuffix(".weight"))
        if low is None:
            np.testing.assert_array_equal(after[name], weight, err_msg=name)
            continue
        total = weight + 0.5 * low.scale * low.b @ low.a
        if dora:
            total *= (low.magnitude / np.sqrt((total**2).sum(1)))[:, None]
        np.testing.assert_allclose(after[name], total, rtol=1e-5, atol=1e-6, err_msg=name)


def test_an_adapter_of_zeros_changes_no_bit_and_shares_the_base():
    bagel, config = family.by_name("bagel"), tiny_bagel.config()
    params = bagel.model(config).init(jax.random.key(0))
    modules = bagel.linears(config)
    zero = {m: low._replace(b=0 * low.b) for m, low in random_adapter(modules, RULES).modules.items()}
    found = lora.merged(params, modules, Adapter("adapter", zero))
    jax.tree.map(np.testing.assert_array_equal, found, params)
    assert found["decoder"]["embed"]["embedding"] is params["decoder"]["embed"]["embedding"]
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(lora.merged(half, modules, Adapter("adapter", zero))))
    with pytest.raises(CheckpointError, match="of another model"):
        wrong = {m: low._replace(a=low.a[:, :5]) for m, low in zero.items()}
        lora.merged(params, modules, Adapter("adapter", wrong))


def test_both_submodels_of_omnigen2_under_every_name():
    found = family.by_name("omnigen2").linears(tiny_omnigen2.config())
    for case in ("omnigen2_dit", "omnigen2_mllm"):
        bound = json.loads((REPOSITORY / f"tests/golden/peft/{case}/bound.json").read_text())
        first = [module for module in bound if ".1." not in module]
        assert first and set(first) <= found.keys()
    a, b = "model.language_model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj"
    assert found[a] == found[b] and found[a].path.startswith("mllm/")
    assert found["transformer.layers.0.attn.to_q"] == found["layers.0.attn.to_q"]


def test_two_adapters_in_turn_on_the_model_that_ships(tmp_path):
    model = load.load("package:nano")
    modules = model.family.linears(model.config)
    for name, scale in (("one", 1.0), ("two", -1.0)):
        lows = random_adapter(modules, RULES).modules
        lows = {module: low._replace(b=low.b * np.float32(0.05 * scale)) for module, low in lows.items()}
        adapters_out.write(tmp_path / name, RULES, lows)
    one, two = (load.with_adapter(model, tmp_path / name) for name in ("one", "two"))
    again = load.load("package:nano", adapter=tmp_path / "one", adapter_scale=-1.0)
    kernel = "decoder/layers_0/und/q_proj/kernel".split("/")

    def value(assistant):
        return np.asarray(jax.tree_util.tree_reduce(lambda x, _: x, _at(assistant.params, kernel)))

    assert np.abs(value(one) - value(model)).max() > 0.01
    np.testing.assert_allclose(value(two), value(again), atol=1e-6)
    assert adapters.digest(tmp_path / "one") != adapters.digest(tmp_path / "two")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load.with_adapter(model, tmp_path / "nowhere")


def _at(tree, path):
    for key in path:
        tree = tree[key]
    return tree
