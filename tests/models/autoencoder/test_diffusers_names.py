"""OmniGen2's autoencoder: diffusers' names into our autoencoder, against the recorded numbers of the reference."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sgt_jax import trees
from sgt_jax.checkpoints.exporting import write_published
from sgt_jax.errors import CheckpointError
from sgt_jax.models.autoencoder import diffusers_names
from sgt_jax.models.autoencoder.model import Autoencoder
from tests.support import paths

GOLDEN = paths.GOLDEN / "omnigen2"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "vae.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def vae():
    params, config = diffusers_names.load_vae(GOLDEN / "vae")
    return Autoencoder(config, precision=jax.lax.Precision.HIGHEST), params


def channels_first(x):
    return np.asarray(x).transpose(0, 3, 1, 2)


def close(found, expected):
    """Within the rounding of float32: the recorded tolerances are ten times wider."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max() + 1e-6)


def observed(model, method):
    """Compiled: (variables, input) -> (output, what every module inside gave)."""
    return jax.jit(functools.partial(model.apply, method=method, capture_intermediates=True))


def test_encoder(vae, golden):
    model, params = vae
    pixels = golden["preprocess.output"].transpose(0, 2, 3, 1)
    moments, state = observed(model, "encode")({"params": params}, pixels)
    inner = state["intermediates"]["encoder"]
    for level in range(4):
        close(channels_first(inner[f"down_{level}"]["__call__"][0]), golden[f"act.encoder.down_blocks.{level}"])
    close(channels_first(inner["mid"]["__call__"][0]), golden["act.encoder.mid_block"])
    close(channels_first(moments), golden["encode.moments"])
    mean, logvar = np.split(channels_first(moments), 2, axis=1)
    sample = mean + np.exp(logvar / 2) * golden["encode.eps"]
    scaled = (sample - model.config.shift_factor) * model.config.scale_factor
    close(scaled, golden["encode.scaled_sample"])


def test_decoder(vae, golden):
    model, params = vae
    latent = golden["decode.latent_scaled"].transpose(0, 2, 3, 1)
    z = latent / model.config.scale_factor + model.config.shift_factor
    image, state = observed(model, "decode")({"params": params}, z)
    inner = state["intermediates"]["decoder"]
    close(channels_first(inner["mid"]["__call__"][0]), golden["act.decoder.mid_block"])
    # Levels are numbered from the finest here, from the coarsest there.
    close(channels_first(inner["up_3"]["__call__"][0]), golden["act.decoder.up_blocks.0"])
    close(channels_first(inner["up_2"]["__call__"][0]), golden["act.decoder.up_blocks.1"])
    close(channels_first(image), golden["decode.image"])


def test_tree_is_the_models_own(vae):
    model, params = vae
    fresh = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    assert jax.tree.structure(fresh) == jax.tree.structure(params)
    assert all(a.shape == b.shape for a, b in zip(jax.tree.leaves(fresh), jax.tree.leaves(params)))


def test_flux_sizes():
    """The published file: 244 tensors, 83.8 million values, in BAGEL's naming and in this one."""
    names = diffusers_names.vae_names(diffusers_names.AutoencoderConfig())
    assert len(names) == 244
    assert sum(int(np.prod(source.shape)) for source in names.values()) == 83_819_683


def test_back_to_the_file(vae, tmp_path):
    model, params = vae
    leaf = functools.partial(trees.at, params)
    write_published(tmp_path / "a", diffusers_names.vae_names(model.config), leaf, metadata={"format": "pt"})
    assert (tmp_path / "a").read_bytes() == (GOLDEN / "vae" / diffusers_names.VAE_FILE).read_bytes()


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "vae"
    shutil.copytree(GOLDEN / "vae", target)
    return target


def test_bfloat16_and_shards(folder, vae):
    file = folder / diffusers_names.VAE_FILE
    tensors = {name: array.astype(ml_dtypes.bfloat16) for name, array in load_file(file).items()}
    file.unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[:50], "b.safetensors": names[50:]}
    for part, own in parts.items():
        save_file({name: tensors[name] for name in own}, folder / part)
    places = {name: part for part, own in parts.items() for name in own}
    (folder / (diffusers_names.VAE_FILE + ".index.json")).write_text(json.dumps({"weight_map": places}))
    params, _ = diffusers_names.load_vae(folder, dtype="float32")
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(vae[1])):
        assert np.array_equal(a, np.asarray(b).astype(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize(
    "change, why",
    [
        ({"use_quant_conv": True}, "use_quant_conv"),
        ({"act_fn": "relu"}, "act_fn"),
        ({"block_out_channels": [8, 12, 24, 24]}, "multiples"),
        ({"block_out_channels": [8, 16, 24]}, "unexpected"),
        ({"layers_per_block": 2}, "missing"),
        ({"latent_channels": 8}, "misshaped"),
        ({"norm_num_groups": 5}, "multiples of 5"),
        ({"block_out_channels": None}, "block_out_channels None"),
    ],
)
def test_other_autoencoders_are_refused(folder, change, why):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=why):
        diffusers_names.load_vae(folder)


def test_damaged_folders(folder):
    (folder / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="config.json"):
        diffusers_names.load_vae(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="lacks 'block_out_channels'"):
        diffusers_names.load_vae(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="vae/ folder"):
        diffusers_names.load_vae(folder)
