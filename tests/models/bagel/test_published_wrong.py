"""Published folders whose configs contradict their tensors, or that are damaged, are refused with one message."""

import os

import numpy as np
import pytest

from sgt_jax.errors import CheckpointError
from sgt_jax.models.bagel.published import config_from_folder, load_published
from tests.support.golden_checkpoint import CKPT, FILES, TABLES, copied, edit, same_tree


@pytest.fixture
def folder(tmp_path):
    """A copy of the golden checkpoint that a test may damage."""
    return copied(tmp_path / "ckpt")


# -- Configs


def test_sizes_that_no_config_file_holds_are_measured(folder):
    """As in the published folder, there is no extra file: nothing may fall back to BAGEL-7B's sizes."""
    (folder / "golden_config.json").unlink()
    config, golden = config_from_folder(folder), config_from_folder(CKPT)
    assert (config.max_latent_size, config.vit_max_num_patch_per_side, config.latent_patch_size) == (16, 8, 2)
    assert config.vae.ch_mult == (1, 2)
    kept = {"special_tokens": golden.special_tokens, "vae": config.vae}
    assert config.replace(**kept) == golden.replace(vae=config.vae)
    same_tree(load_published(folder).params, load_published(CKPT).params)


@pytest.mark.parametrize(
    "file, change, why",
    [
        ("golden_config.json", lambda c: c["model"].update(max_latent_size=8), "max_latent_size is 8.* it is 16"),
        ("golden_config.json", lambda c: c["vae"].update(z_channels=8), "z_channels is 8.* it is 4"),
        ("golden_config.json", lambda c: c["vae"].update(unknown=1), "unknown"),
        ("llm_config.json", lambda c: c.pop("num_key_value_heads"), "llm_config.json: lacks num_key_value_heads"),
        ("llm_config.json", lambda c: c.pop("rope_theta"), "llm_config.json: lacks rope_theta"),
        ("vit_config.json", lambda c: c.pop("image_size"), "vit_config.json: lacks image_size"),
        ("llm_config.json", lambda c: c.update(num_key_value_heads=3), "do not fit"),
        ("llm_config.json", lambda c: c.update(hidden_size="64"), "hidden_size '64'"),
        ("llm_config.json", lambda c: c.update(hidden_size=64.0), "hidden_size 64.0"),
        ("llm_config.json", lambda c: c.update(vocab_size=-200), "vocab_size -200"),
        ("llm_config.json", lambda c: c.update(num_hidden_layers=10**9), "num_hidden_layers 1000000000"),
        ("vit_config.json", lambda c: c.update(patch_size=True), "patch_size True"),
        ("ema.safetensors", lambda t: t.update({TABLES[0]: np.zeros([250, 64], "f4")}), "250 .*no square"),
    ],
)
def test_contradictory_configs(folder, file, change, why):
    edit(folder / file, change)
    with pytest.raises(CheckpointError, match=why) as caught:
        load_published(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "file, change, lines",
    [
        (
            "llm_config.json",
            lambda c: c.update(vocab_size=199),
            ["2 misshaped", "lm_head.weight: [200, 64] in the file"],
        ),
        ("llm_config.json", lambda c: c.update(num_hidden_layers=4), ["28 missing", "layers.3.", "and 24 more"]),
        ("llm_config.json", lambda c: c.update(num_hidden_layers=2), ["28 unexpected", "layers.2.", "and 24 more"]),
        ("vit_config.json", lambda c: c.update(num_hidden_layers=4), ["16 missing", "encoder.layers.2.", "and 12 more"]),
        ("ae.safetensors", lambda t: t.pop("decoder.norm_out.bias"), ["1 missing", "decoder.norm_out.bias"]),
    ],
)
def test_one_message_counts_the_wrong_names_and_lists_a_few(folder, file, change, lines):
    edit(folder / file, change)
    with pytest.raises(CheckpointError) as caught:
        load_published(folder)
    for line in [str(folder), *lines]:
        assert line in str(caught.value)


def test_missing_unexpected_and_misshaped_at_once(folder):
    def change(tensors):
        tensors["extra"] = tensors.pop("connector.fc1.bias")
        tensors["llm2vae.bias"] = tensors["llm2vae.bias"][:-1]

    edit(folder / "ema.safetensors", change)
    with pytest.raises(CheckpointError) as caught:
        load_published(folder)
    for line in ("1 missing:\n  connector.fc1.bias", "1 unexpected:\n  extra", "1 misshaped:\n  llm2vae.bias: [15] in"):
        assert line in str(caught.value)


# -- Damaged and wrong folders


@pytest.mark.parametrize("file", ["llm_config.json", "vit_config.json", *FILES])
@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_files(folder, file, keep):
    os.truncate(folder / file, keep if keep >= 0 else (folder / file).stat().st_size + keep)
    with pytest.raises(CheckpointError, match=file):
        load_published(folder)


@pytest.mark.parametrize("file", ["llm_config.json", "vit_config.json", *FILES])
def test_absent_files(folder, file):
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=f"{folder}: holds no {file}"):
        load_published(folder)


def test_wrong_folders(folder, tmp_path):
    with pytest.raises(CheckpointError, match="absent: is not a folder"):
        load_published(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="is not a folder"):
        load_published(folder / "ema.safetensors")
    with pytest.raises(CheckpointError, match="is not a folder"):
        load_published(folder, base=tmp_path / "absent")
    with pytest.raises(ValueError, match="choose read or recompute"):
        load_published(folder, tables="keep")
