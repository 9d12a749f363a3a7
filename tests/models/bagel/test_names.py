"""The name map: every published tensor exactly once, both ways, at 7B in shapes and on a real small checkpoint."""

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sgt_jax.checkpoints.exporting import published_arrays
from sgt_jax.errors import CheckpointError
from sgt_jax.models.autoencoder import flux_names
from sgt_jax.models.bagel import names
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.models.bagel.published import load_published
from tests.support import paths

GOLDEN = paths.GOLDEN / "bagel"
CKPT = GOLDEN / "ckpt"
TABLES = ("latent_pos_embed.pos_embed", "vit_pos_embed.pos_embed")


@pytest.fixture(scope="module")
def config():
    return BagelConfig.from_folder(CKPT)


def load(folder, config, **options):
    return load_published(folder, config, dtype="float32", **options).params


def size(sources):
    return sum(int(np.prod(source.shape)) for source in sources.values())


@pytest.mark.parametrize("scan", [True, False], ids=["scanned", "unrolled"])
def test_7b_has_exactly_the_published_tensors(scan):
    """1223 + 244 tensors, 14,607,260,128 + 83,819,683 values, each at its place in the abstract model."""
    config = BagelConfig(scan_layers=scan)
    sources = names.name_map(config)
    model, vae = (names.name_map(config, file) for file in (names.MODEL_FILE, flux_names.VAE_FILE))
    assert (len(model), size(model)) == (1223, 14_607_260_128)
    assert (len(vae), size(vae)) == (244, 83_819_683)
    assert len(sources) == len(model) + len(vae)  # no name twice
    assert set(names.TABLES) == set(TABLES) <= set(model)

    tree = jax.eval_shape(Bagel(config).init, jax.random.key(0))
    leaves = {"/".join(k.key for k in path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}
    assert {source.path for source in sources.values()} == set(leaves)
    assert sum(x.size for x in leaves.values()) == size(sources)
    for name, source in sources.items():
        ours = leaves[source.path].shape if source.layer is None else leaves[source.path].shape[1:]
        assert source.leaf_shape == ours, name
        abstract = np.broadcast_to(np.float32(0), ours)  # no memory behind it
        assert source.as_published(abstract).shape == source.shape, name
    layers = [source.layer for source in sources.values() if source.path.startswith("decoder/layers/und/")]
    assert set(layers) == (set(range(28)) if scan else set())


@pytest.mark.parametrize("changes", [{}, {"scan_layers": True}], ids=["unrolled", "scanned"])
def test_a_checkpoint_goes_in_and_out_unchanged(config, changes):
    config = config.replace(**changes)
    params = load(CKPT, config)
    files = {name: load_file(CKPT / name) for name in (names.MODEL_FILE, flux_names.VAE_FILE)}
    for name, tensors in files.items():
        written = published_arrays(params, names.name_map(config, name))
        assert set(written) == set(tensors)
        assert all(np.array_equal(written[key], x) for key, x in tensors.items())
    assert set(published_arrays(params, names.name_map(config))) == set(files[names.MODEL_FILE]) | set(
        files[flux_names.VAE_FILE]
    )


def test_parts_of_a_tree_can_be_written(config):
    params = load(CKPT, config)
    assert set(published_arrays({"connector": params["connector"]}, names.name_map(config))) == {
        f"connector.{m}.{part}" for m in ("fc1", "fc2") for part in ("weight", "bias")
    }
    vae = flux_names.load_vae(CKPT / flux_names.VAE_FILE, config.vae)
    assert set(vae) == {"encoder", "decoder"}
    assert jax.tree.all(jax.tree.map(np.array_equal, vae, params["vae"]))


def copy_checkpoint(folder, change):
    tensors = load_file(CKPT / names.MODEL_FILE)
    change(tensors)
    save_file(tensors, folder / names.MODEL_FILE)
    (folder / flux_names.VAE_FILE).write_bytes((CKPT / flux_names.VAE_FILE).read_bytes())


def test_absent_tables_are_computed(config, tmp_path):
    """Training of the reference drops both tables from the file; the recorded ones are the sine tables."""
    copy_checkpoint(tmp_path, lambda t: [t.pop(name) for name in TABLES])
    got, whole = load(tmp_path, config, initialise=TABLES), load(CKPT, config)
    for name in ("vit_pos_embed", "latent_pos_embed"):
        np.testing.assert_allclose(got[name]["table"], whole[name]["table"], atol=1e-6)


def test_a_missing_tensor_is_named(config, tmp_path):
    name = "language_model.model.layers.1.self_attn.q_norm_moe_gen.weight"
    copy_checkpoint(tmp_path, lambda t: t.pop(name))
    with pytest.raises(CheckpointError, match=f"1 missing:\n  {name}"):
        load(tmp_path, config)


def test_a_wrong_shape_is_named(config, tmp_path):
    copy_checkpoint(tmp_path, lambda t: t.update({"vae2llm.bias": np.zeros(63, np.float32)}))
    with pytest.raises(CheckpointError, match=r"vae2llm.bias: \[63\] in the file, \[64\] by the configs"):
        load(tmp_path, config)


def test_the_autoencoders_own_file_names_what_is_wrong(config, tmp_path):
    """`config.vae_from` takes one file; what it lacks is said as it is of a folder."""
    tensors = load_file(CKPT / flux_names.VAE_FILE)
    del tensors["decoder.conv_in.bias"]
    save_file(tensors, tmp_path / "ae.safetensors")
    with pytest.raises(CheckpointError, match="1 missing:\n  decoder.conv_in.bias"):
        flux_names.load_vae(tmp_path / "ae.safetensors", config.vae)
    with pytest.raises(CheckpointError, match="nowhere.safetensors"):
        flux_names.load_vae(tmp_path / "nowhere.safetensors", config.vae)


def test_the_fingerprint_of_an_autoencoder_is_its_encoders(tmp_path):
    """Folders of tokenised targets hold this text, so it must not change."""
    whole = flux_names.fingerprint(CKPT / flux_names.VAE_FILE)
    assert whole == "a043f7117e45e580"
    tensors = load_file(CKPT / flux_names.VAE_FILE)
    tensors["decoder.conv_in.bias"] += 1
    save_file(tensors, tmp_path / "a")
    assert flux_names.fingerprint(tmp_path / "a") == whole
    tensors["encoder.conv_in.bias"] += 1
    save_file(tensors, tmp_path / "b")
    assert flux_names.fingerprint(tmp_path / "b") != whole
    save_file({name: x.astype(ml_dtypes.bfloat16) for name, x in tensors.items()}, tmp_path / "c")
    save_file({name: x.astype(ml_dtypes.bfloat16).astype(np.float32) for name, x in tensors.items()}, tmp_path / "d")
    assert flux_names.fingerprint(tmp_path / "c") == flux_names.fingerprint(tmp_path / "d")


def test_bfloat16_files(config, tmp_path):
    """The published file is bfloat16; masters are float32."""
    copy_checkpoint(tmp_path, lambda t: t.update({k: v.astype(ml_dtypes.bfloat16) for k, v in t.items()}))
    got = load(tmp_path, config)["connector"]["fc1"]["kernel"]
    whole = np.asarray(load(CKPT, config)["connector"]["fc1"]["kernel"])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, whole.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_patch_convolution(config, tmp_path):
    """SigLIP's own files hold the patch embedding as a convolution; a folder with one is refused by name."""
    with np.load(GOLDEN / "images.npz") as recorded:
        conv, linear = recorded["conv_weight"], recorded["linear_weight"]
        pixels, patches = recorded["patchify_in"], recorded["patchify_out"]
    np.testing.assert_array_equal(names.patch_conv_to_linear(conv), linear)
    np.testing.assert_allclose(
        patches[0] @ linear.T, np.einsum("chw,ochw->o", pixels[:, :4, :4], conv), rtol=1e-5, atol=1e-6
    )
    name = "vit_model.vision_model.embeddings.patch_embedding.weight"
    copy_checkpoint(tmp_path, lambda t: t.update({name: t[name].reshape(len(t[name]), 3, config.vit.patch_size, -1)}))
    with pytest.raises(CheckpointError, match=f"1 misshaped:\n  {name}: "):
        load(tmp_path, config)


def test_fresh_parameters_have_the_checkpoints_structure(config):
    fresh = jax.eval_shape(Bagel(config).init, jax.random.key(0))
    loaded = load(CKPT, config)
    assert jax.tree.structure(fresh) == jax.tree.structure(loaded)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, fresh, loaded))
