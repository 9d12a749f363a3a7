"""Published folders that ask for what our model does not compute are refused by name; a prefix of all names is said."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sgt_jax.configs import nano

from sgt_jax.assets import resource
from sgt_jax.commands import sample
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import CheckpointError, ConfigError, DataError
from sgt_jax.inference import load
from sgt_jax.models.bagel.published import config_from_folder, load_published
from sgt_jax.training import experiment
from tests.support import tiny_experiment as tiny


@pytest.fixture
def folder(tmp_path):
    """A copy of the nano model that a test may change."""
    return shutil.copytree(resource("package:nano"), tmp_path / "nano")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("file, changes", [
    ("llm_config.json", {"hidden_act": "gelu"}),
    ("llm_config.json", {"rope_scaling": {"type": "yarn", "factor": 4.0}}),
    ("llm_config.json", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}),
    ("llm_config.json", {"use_sliding_window": True, "sliding_window": 4}),
    ("llm_config.json", {"layer_types": ["full_attention", "sliding_attention"]}),
    ("llm_config.json", {"tie_word_embeddings": True}),
    ("llm_config.json", {"attention_bias": False}),
    ("llm_config.json", {"head_dim": 7}),
    ("llm_config.json", {"quantization_config": {"bits": 4}}),
    ("llm_config.json", {"partial_rotary_factor": 0.5}),
    ("llm_config.json", {"model_type": "gemma"}),
    ("vit_config.json", {"hidden_act": "relu"}),
    ("vit_config.json", {"model_type": "clip_vision_model"}),
])  # fmt: skip
def test_a_setting_that_we_do_not_compute_is_refused_by_name(folder, file, changes):
    edit(folder / file, **changes)
    with pytest.raises(CheckpointError) as error:
        config_from_folder(folder)
    assert file in str(error.value) and "\n" not in str(error.value)
    assert all(name in str(error.value) for name in changes)


def test_settings_that_mean_what_we_compute_are_accepted(folder):
    edit(folder / "llm_config.json", use_sliding_window=False, sliding_window=131072, rope_scaling=None,
         tie_word_embeddings=False, attention_dropout=0.0, rope_parameters={"rope_type": "default"})  # fmt: skip
    assert config_from_folder(folder).llm.hidden_size == 128


def test_a_prefix_of_all_names_is_one_line_and_can_be_stripped(folder):
    path = folder / "ema.safetensors"
    tensors = load_file(path)
    save_file({f"module.{name}": x for name, x in tensors.items()}, path)
    with pytest.raises(CheckpointError, match="--strip-prefix=module\\.") as error:
        config_from_folder(folder)
    assert f"{len(tensors)} of {len(tensors)} names" in str(error.value) and "\n" not in str(error.value)
    config = config_from_folder(folder, strip_prefix="module.")
    found = load_published(folder, config, strip_prefix="module.")
    want = load_published(resource("package:nano"))
    np.testing.assert_array_equal(found.params["llm2vae"]["kernel"], want.params["llm2vae"]["kernel"])

    run = nano.get_config()
    run.init_from, run.vae_from = str(folder), ""
    with pytest.raises(CheckpointError, match="config.init_strip_prefix"):
        experiment.build(run)
    run.init_strip_prefix = "module."
    tuned = experiment.build(run)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: here, jax.eval_shape(tuned.init, jax.random.key(0)))
    params, _ = tuned.initial_params(jax.random.key(0), shardings)
    np.testing.assert_array_equal(params["llm2vae"]["kernel"], want.params["llm2vae"]["kernel"])


def test_a_prompt_beyond_the_positions_of_the_model_is_refused():
    model = load.load("package:nano")
    words = " ".join(["red"] * 600)
    with pytest.raises(DataError, match="max_position_embeddings"):
        model.chat([words], max_new_tokens=1)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused_before_anything_is_compiled():
    assert Tokenizer.nano().size == 128
    for size in (64, 120):
        config = tiny.config()
        config.model.llm.vocab_size = size
        with pytest.raises(ConfigError, match=f"ids up to 127, and the model a vocabulary of {size}"):
            experiment.build(config)


def test_init_from_a_work_directory_says_how_to_convert_it(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    config = tiny.config(init_from=str(tmp_path))
    with pytest.raises(CheckpointError, match="python -m sgt_jax convert"):
        experiment.build(config)


@pytest.mark.parametrize("options, words", [
    (["chat", ""], "a text is empty"), (["chat", "  "], "a text is empty"), (["chat", "a", "--temperature", "nan"], "--temp"),
    (["chat", "a", "--temperature", "-1"], "--temp"), (["chat", "a", "--max-new-tokens", "0"], "--max-new-tokens"),
    (["chat", "a", "--max-new-tokens", "-3"], "--max-new-tokens"), (["chat", "a", "--seed", "-1"], "--seed"),
    (["chat", "a", "--seed", str(2**63)], "--seed"), (["chat", "a", "--seed", str(2**31 - 1), "--num", "2"], "--seed"),
    (["t2i", "a", "--shift", "nan"], "--shift"), (["t2i", "a", "--shift", "0"], "--shift"),
    (["t2i", "a", "--text-scale", "nan"], "--text-scale"), (["t2i", "a", "--text-scale", "-1"], "--text-scale"),
    (["t2i", "a", "--steps", "0"], "--steps"), (["t2i", "a", "--size", "0x0"], "--size"),
    (["t2i", "a", "--interval", "0.5", "nan"], "--interval"), (["t2i", "a", "--interval", "0.9", "0.1"], "--interval"),
    (["chat", "a", "--vit-sides", "0", "4"], "--vit-sides"), (["chat", "a", "--num", "0"], "--num"),
])  # fmt: skip
def test_values_of_sample_are_checked_before_the_model_is_loaded(tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.setattr(load, "load", lambda *a, **k: pytest.fail("loaded before it was checked"))
    assert sample.main(["--checkpoint", "package:nano", "--out", str(tmp_path / "a.png"), *options]) == 1
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1
