"""Adapters in the layout of PEFT: what is matched, computed, refused by name, and written."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sgt_jax.checkpoints import adapters, adapters_out
from sgt_jax.checkpoints.adapters import Adapter, Low
from sgt_jax.errors import CheckpointError
from tests.support.paths import REPOSITORY

GOLDEN = REPOSITORY / "tests/golden/peft"
CONFIG = json.loads((GOLDEN / "bagel_gen/adapter/adapter_config.json").read_text())


def settings(**changes):
    return adapters.settings_of(CONFIG | changes, "adapter_config.json")


@pytest.mark.parametrize("targets, module, adapted", [
    (["q_proj"], "a.q_proj", True),
    (["q_proj"], "q_proj", True),
    (["q_proj"], "a.q_proj_moe_gen", False),
    (["mlp.gate_proj"], "layers.0.mlp_moe_gen.gate_proj", False),
    (["mlp.gate_proj"], "layers.0.mlp.gate_proj", True),
    (["to_out.0"], "layers.0.attn.to_out.0", True),
    (r".*layers\.0\..*_proj", "model.layers.0.q_proj", True),
    (r"layers\.0\..*_proj", "model.layers.0.q_proj", False),
])  # fmt: skip
def test_targets_are_matched_as_peft_matches_them(targets, module, adapted):
    assert settings(target_modules=targets).adapts(module) is adapted


def test_patterns_scale_and_exclusion():
    found = settings(
        r=4, lora_alpha=8, rank_pattern={"down_proj": 2, "^a.q_proj": 3}, alpha_pattern={"layers.1.*q_proj": 5},
        target_modules=["q_proj", "down_proj"], exclude_modules=["layers.0.q_proj"], fan_in_fan_out=True,
    )  # fmt: skip
    assert [found.rank_of(name) for name in ("x.down_proj", "down_proj", "a.q_proj", "b.a.q_proj")] == [2, 2, 3, 4]
    assert found.scale_of("layers.1.x.q_proj") == 5 / 4 and found.scale_of("layers.0.down_proj") == 8 / 2
    assert settings(r=4, lora_alpha=8, use_rslora=True).scale_of("any") == 4.0
    assert found.adapts("layers.1.q_proj") and not found.adapts("model.layers.0.q_proj")


@pytest.mark.parametrize("key, value", [
    ("bias", "all"), ("modules_to_save", ["lm_head"]), ("layers_to_transform", [0]), ("layer_replication", [[0, 1]]),
    ("lora_bias", True), ("use_qalora", True), ("trainable_token_indices", [1]), ("target_parameters", ["w"]),
    ("a_key_of_the_future", 3), ("init_lora_weights", "pissa_niter_4"), ("peft_type", "LOHA"), ("r", 0),
    ("target_modules", "all-linear"), ("rank_pattern", {"(": 3}), ("lora_alpha", None),
])  # fmt: skip
def test_what_is_not_computed_is_refused_by_name(key, value):
    with pytest.raises(CheckpointError) as error:
        settings(**{key: value})
    assert "\n" not in str(error.value)
    assert key in str(error.value) or key in ("r", "rank_pattern", "lora_alpha")


def damaged(tmp_path, change):
    folder = tmp_path / "adapter"
    shutil.copytree(GOLDEN / "bagel_gen/adapter", folder)
    tensors = load_file(folder / adapters.WEIGHTS)
    change(tensors)
    save_file(tensors, folder / adapters.WEIGHTS)
    return folder


NAME = "base_model.model.language_model.model.layers.0.self_attn.q_proj_moe_gen.lora_"


@pytest.mark.parametrize("change, words", [
    (lambda t: t.pop(f"{NAME}B.weight"), "1 absent: .*q_proj_moe_gen.lora_B"),
    (lambda t: t.update({"base_model.model.x.bias": np.zeros(2, np.float32)}), "1 unknown: .*x.bias"),
    (lambda t: t.clear(), "no whole adapters"),
    (lambda t: t.update({f"{NAME}A.weight": np.zeros((3, 24), np.float32)}), "not of rank 4"),
    (lambda t: t.update({n.replace("q_proj_moe_gen", "o_proj"): t[n] for n in list(t) if "layers.0" in n and "q_proj" in n}),
     "o_proj.* is not among target_modules"),
])  # fmt: skip
def test_tensors_that_make_no_adapter_are_named(tmp_path, change, words):
    with pytest.raises(CheckpointError, match=words):
        adapters.read(damaged(tmp_path, change))


def test_every_name_that_binds_to_nothing_is_named():
    _, adapter = adapters.read(GOLDEN / "bagel_gen/adapter")
    shapes = {module: (len(low.b), low.a.shape[1]) for module, low in adapter.modules.items()}
    assert adapters.bind(adapter, shapes) == adapter.modules
    lost = sorted(shapes)[:6]
    with pytest.raises(CheckpointError, match="8 of 14 adapters") as error:
        adapters.bind(adapter, {module: shape for module, shape in shapes.items() if module not in lost})
    assert all(module in str(error.value) for module in lost)
    with pytest.raises(CheckpointError, match="0 of 14"):
        adapters.bind(adapter, {})
    with pytest.raises(CheckpointError, match="of another model"):
        adapters.bind(adapter, shapes | {lost[0]: (3, 3)})


def test_the_layout_of_diffusers_holds_the_same_products(tmp_path):
    _, adapter = adapters.read(GOLDEN / "bagel_und_pattern/adapter")
    path = tmp_path / adapters.DIFFUSERS
    adapters_out.write_diffusers(path, adapter.modules)
    again = adapters.read_diffusers(path)
    assert again.modules.keys() == adapter.modules.keys()
    for module, low in adapter.modules.items():
        other, zero = again.modules[module], np.zeros((len(low.b), low.a.shape[1]))
        np.testing.assert_allclose(other.merged(zero), low.merged(zero), rtol=1e-6, atol=1e-7)
    assert next(iter(adapters.read_diffusers(path, alpha=8).modules.values())).scale == 8 / 2


def test_an_adapter_is_added_to_published_tensors_or_refused():
    low = Low(np.ones((2, 4), np.float32), np.ones((4, 2), np.float32), 0.5)
    tensors = {"layers.0.to_q.weight": np.zeros((4, 4), np.float16), "layers.0.norm.weight": np.ones(4, np.float32)}
    found = adapters.merged(tensors, Adapter("file", {"layers.0.to_q": low}))
    assert found.keys() == tensors.keys() and found["layers.0.norm.weight"] is tensors["layers.0.norm.weight"]
    assert found["layers.0.to_q.weight"].dtype == np.float16 and (found["layers.0.to_q.weight"] == 1).all()
    with pytest.raises(CheckpointError, match="No module: 'layers.1.to_q'"):
        adapters.merged(tensors, Adapter("file", {"layers.1.to_q": low}))
    with pytest.raises(CheckpointError, match="is of another model"):
        adapters.merged(tensors, Adapter("file", {"layers.0.norm": low}))
