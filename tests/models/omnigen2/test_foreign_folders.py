"""Weights of OmniGen2 as others write them, and folders that are damaged: what is read, and what each error names."""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sgt_jax.checkpoints import adapters
from sgt_jax.errors import CheckpointError
from sgt_jax.models.family import by_name, of_folder
from sgt_jax.models.omnigen2.dit_names import LORA_FILE
from tests.support import paths
from tests.support.golden_checkpoint import edit

GOLDEN = paths.GOLDEN / "omnigen2"
FAMILY = by_name("omnigen2")
DIT, MLLM = "transformer/diffusion_pytorch_model.safetensors", "mllm/model.safetensors"


def load(folder, base=None, dtype=None):
    config = FAMILY.config_of_folder(folder, base, scan_layers=True)
    return FAMILY.load(folder, config, base=base, dtype=dtype).params


def in_memory(name):
    """The name of a language model's tensor in memory, written by hand."""
    return "model." + name if name.startswith("visual.") else name.replace("model.", "model.language_model.", 1)


@pytest.fixture(scope="module")
def right():
    return load(GOLDEN)


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(*map(jax.tree.leaves, (one, other))))


def test_the_state_of_a_trainer(own, right):
    shutil.copy(GOLDEN / DIT, own / "model.safetensors")
    save_file({in_memory(name): x for name, x in load_file(GOLDEN / MLLM).items()}, own / "model_1.safetensors")
    assert of_folder(own).name == "omnigen2"
    same(load(own, GOLDEN), right)
    (own / "model_1.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model_1.safetensors: cannot be opened"):
        load(own, GOLDEN)


@pytest.mark.parametrize("prefix", ["text_encoder.", "text_encoder.model."])
def test_the_one_file_of_an_older_trainer(own, right, prefix):
    tensors = {"model." + name: x for name, x in load_file(GOLDEN / DIT).items()}
    tensors |= {prefix + in_memory(name): x for name, x in load_file(GOLDEN / MLLM).items()}
    save_file(tensors, own / "model.safetensors")
    same(load(own, GOLDEN), right)


@pytest.mark.parametrize("inside", ["", "transformer"])
def test_a_release_of_sgt_over_a_base(own, right, inside):
    shutil.copytree(GOLDEN / "transformer", own / inside / "transformer")
    shutil.copytree(GOLDEN / "mllm", own / inside / "text_encoder")
    edit(
        own / inside / "text_encoder" / "model.safetensors",
        lambda t: t.update({"model.norm.weight": t["model.norm.weight"] + 1}),
    )
    found = load(own, GOLDEN)
    assert np.array_equal(found["mllm"]["text"]["norm"]["scale"], right["mllm"]["text"]["norm"]["scale"] + 1)
    same(found["dit"], right["dit"])


def test_adapters_are_merged_into_the_base(own, right):
    shutil.copy(GOLDEN / "lora" / LORA_FILE, own / LORA_FILE)
    merged = adapters.merged(load_file(GOLDEN / DIT), adapters.read_diffusers(own / LORA_FILE))
    found = load(own, GOLDEN)
    changed = found["dit"]["joint"]["layers"]["q_proj"]["kernel"]
    assert not np.array_equal(changed, right["dit"]["joint"]["layers"]["q_proj"]["kernel"])
    for i, kernel in enumerate(changed):
        np.testing.assert_allclose(kernel, merged[f"layers.{i}.attn.to_q.weight"].T, atol=1e-6)
    same(found["mllm"], right["mllm"])


def test_half_precision_becomes_float32_masters(own, right):
    shutil.copytree(GOLDEN / "transformer", own / "transformer")
    edit(own / DIT, lambda t: t.update({name: x.astype(ml_dtypes.bfloat16) for name, x in t.items()}))
    found = load(own, GOLDEN, "float32")
    rounded = jax.tree.map(lambda x: np.asarray(x).astype(ml_dtypes.bfloat16).astype(np.float32), right["dit"])
    same(jax.tree.map(np.asarray, found["dit"]), rounded)


def _without(key):
    return lambda values: values.pop(key)


def _with(**changes):
    return lambda values: values.update(changes)


def _text(**changes):
    return lambda values: values["text_config"].update(changes)


def _vision(**changes):
    return lambda values: values["vision_config"].update(changes)


def _grown(name):
    return lambda tensors: tensors.update({name: np.zeros((3, 3), np.float32)})


# (file, what is done to it, what the error must say)
EDITS = [
    *(
        ("transformer/config.json", _without(key), key)
        for key in ("hidden_size", "num_layers", "axes_dim_rope", "patch_size")
    ),
    ("transformer/config.json", _with(num_kv_heads=3), "key-value heads"),
    ("transformer/config.json", _with(axes_dim_rope=[6, 6, 4]), "axes_dim_rope"),
    ("transformer/config.json", _with(axes_dim_rope=[6, 6, 5]), "axes_dim_rope"),
    ("transformer/config.json", _with(num_layers=4), "missing"),
    ("transformer/config.json", _with(num_layers=2), "unexpected"),
    ("transformer/config.json", _with(multiple_of=512), "misshaped"),
    (DIT, _without("x_embedder.weight"), "x_embedder.weight"),
    (DIT, _grown("evil.weight"), "evil.weight"),
    (DIT, _grown("x_embedder.bias"), "x_embedder.bias"),
    ("mllm/config.json", _without("vision_config"), "vision_config"),
    ("mllm/config.json", _with(text_config=3), "text_config"),
    *(
        ("mllm/config.json", (lambda v, k=key: v["text_config"].pop(k)), key)
        for key in ("hidden_size", "rope_theta", "vocab_size")
    ),
    ("mllm/config.json", _text(rope_scaling=None), "mrope_section"),
    ("mllm/config.json", _text(rope_scaling={"mrope_section": [2, 2, 3]}), "mrope_section"),
    ("mllm/config.json", _text(rope_scaling={"mrope_section": [2, 2, 2], "rope_type": "yarn"}), "yarn"),
    ("mllm/config.json", _text(hidden_act="gelu"), "hidden_act"),
    ("mllm/config.json", _text(use_sliding_window=True), "use_sliding_window"),
    ("mllm/config.json", _text(num_hidden_layers=True), "num_hidden_layers"),
    ("mllm/config.json", _text(num_hidden_layers=-1), "num_hidden_layers"),
    ("mllm/config.json", _text(rms_norm_eps="1e-6"), "rms_norm_eps"),
    ("mllm/config.json", _text(tie_word_embeddings=False), "lm_head"),
    ("mllm/config.json", _vision(window_size=60), "window_size"),
    ("mllm/config.json", _vision(num_heads=3), "num_heads|heads do not fit"),
    ("mllm/config.json", _vision(patch_size=16), "window_size|misshaped"),
    ("mllm/config.json", _vision(depth=5), "missing"),
    (MLLM, _without("visual.patch_embed.proj.weight"), "visual.patch_embed.proj.weight"),
    (MLLM, _without("model.norm.weight"), "model.norm.weight"),
    (MLLM, _grown("model.language_model.norm.weight"), "twice"),
    ("vae/config.json", _without("scaling_factor"), "scaling_factor"),
    ("vae/config.json", _with(act_fn="relu"), "act_fn"),
    ("vae/config.json", _with(use_quant_conv=True), "use_quant_conv"),
]


@pytest.mark.parametrize("number", range(len(EDITS)))
def test_a_damaged_folder_gives_one_error_that_names_what_is_wrong(own, number):
    file, change, said = EDITS[number]
    part = file.split("/")[0]
    shutil.copytree(GOLDEN / part, own / part)
    edit(own / file, change)
    with pytest.raises(CheckpointError, match=said) as caught:
        load(own, GOLDEN)
    assert str(own) in str(caught.value)


def test_a_flat_config_is_the_nested_one(own, right):
    shutil.copytree(GOLDEN / "mllm", own / "mllm")
    values = json.loads((own / "mllm/config.json").read_text())
    vision = values["vision_config"]
    vision["in_chans"], vision["spatial_patch_size"] = vision.pop("in_channels"), vision.pop("patch_size")
    (own / "mllm/config.json").write_text(json.dumps({**values.pop("text_config"), **values}))
    assert FAMILY.config_of_folder(own, GOLDEN) == FAMILY.config_of_folder(GOLDEN)
    same(load(own, GOLDEN)["mllm"], right["mllm"])
