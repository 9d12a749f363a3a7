"""The name map: every published tensor exactly once, both ways, at 7B in shapes and on a real small checkpoint."""

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sgt_jax.checkpoints.entries import WeightsError, patch_conv_to_linear, patch_linear_to_conv, to_published
from sgt_jax.models.autoencoder import flux_names
from sgt_jax.models.bagel import names
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.model import Bagel
from tests.support import paths

GOLDEN = paths.GOLDEN / "bagel"
CKPT = GOLDEN / "ckpt"


@pytest.fixture(scope="module")
def config():
    return BagelConfig.from_folder(CKPT)


def size(entries):
    return sum(int(np.prod(entry.shape)) for entry in entries)


@pytest.mark.parametrize("scan", [True, False], ids=["scanned", "unrolled"])
def test_7b_has_exactly_the_published_tensors(scan):
    """1223 + 244 tensors, 14,607,260,128 + 83,819,683 values, each at its place in the abstract model."""
    config = BagelConfig(scan_layers=scan)
    entries = names.name_map(config)
    model, vae = ([e for e in entries if e.file == file] for file in (names.MODEL_FILE, flux_names.VAE_FILE))
    assert (len(model), size(model)) == (1223, 14_607_260_128)
    assert (len(vae), size(vae)) == (244, 83_819_683)
    assert len({entry.name for entry in entries}) == len(entries)

    tree = jax.eval_shape(Bagel(config).init, jax.random.key(0))
    leaves = {tuple(k.key for k in path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}
    assert {entry.path for entry in entries} == set(leaves)
    assert sum(x.size for x in leaves.values()) == size(entries)
    for entry in entries:
        ours = leaves[entry.path].shape if entry.layer is None else leaves[entry.path].shape[1:]
        abstract = np.broadcast_to(np.float32(0), entry.shape)  # no memory behind it
        assert entry.to_ours(abstract).shape == ours, entry
    layers = [entry.layer for entry in entries if entry.path[:3] == ("decoder", "layers", "und")]
    assert set(layers) == (set(range(28)) if scan else set())


@pytest.mark.parametrize("changes", [{}, {"scan_layers": True}], ids=["unrolled", "scanned"])
def test_a_checkpoint_goes_in_and_out_unchanged(config, changes):
    config = config.replace(**changes)
    params = names.load(CKPT, config)
    files = {name: load_file(CKPT / name) for name in (names.MODEL_FILE, flux_names.VAE_FILE)}
    for name, tensors in files.items():
        written = to_published(params, names.name_map(config, name))
        assert set(written) == set(tensors)
        assert all(np.array_equal(written[key], x) for key, x in tensors.items())
    assert set(to_published(params, names.name_map(config))) == set(files[names.MODEL_FILE]) | set(
        files[flux_names.VAE_FILE]
    )


def test_parts_of_a_tree_can_be_written(config):
    params = names.load(CKPT, config)
    assert set(to_published({"connector": params["connector"]}, names.name_map(config))) == {
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
    copy_checkpoint(tmp_path, lambda t: (t.pop("vit_pos_embed.pos_embed"), t.pop("latent_pos_embed.pos_embed")))
    got, whole = names.load(tmp_path, config), names.load(CKPT, config)
    for name in ("vit_pos_embed", "latent_pos_embed"):
        np.testing.assert_allclose(got[name]["table"], whole[name]["table"], atol=1e-6)


def test_a_missing_tensor_is_named(config, tmp_path):
    name = "language_model.model.layers.1.self_attn.q_norm_moe_gen.weight"
    copy_checkpoint(tmp_path, lambda t: t.pop(name))
    with pytest.raises(WeightsError, match=f"ema.safetensors lacks {name}"):
        names.load(tmp_path, config)


def test_a_wrong_shape_is_named(config, tmp_path):
    copy_checkpoint(tmp_path, lambda t: t.update({"vae2llm.bias": np.zeros(63, np.float32)}))
    with pytest.raises(WeightsError, match=r"vae2llm.bias has shape \(63,\), the config says \(64,\)"):
        names.load(tmp_path, config)


def test_bfloat16_files(config, tmp_path):
    """The published file is bfloat16; masters are float32."""
    copy_checkpoint(tmp_path, lambda t: t.update({k: v.astype(ml_dtypes.bfloat16) for k, v in t.items()}))
    got = names.load(tmp_path, config)["connector"]["fc1"]["kernel"]
    whole = names.load(CKPT, config)["connector"]["fc1"]["kernel"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, whole.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_patch_convolution(config, tmp_path):
    """SigLIP's own files hold the patch embedding as a convolution."""
    with np.load(GOLDEN / "images.npz") as recorded:
        conv, linear = recorded["conv_weight"], recorded["linear_weight"]
        pixels, patches = recorded["patchify_in"], recorded["patchify_out"]
    np.testing.assert_array_equal(patch_conv_to_linear(conv), linear)
    np.testing.assert_array_equal(patch_linear_to_conv(linear), conv)
    np.testing.assert_allclose(
        patches[0] @ linear.T, np.einsum("chw,ochw->o", pixels[:, :4, :4], conv), rtol=1e-5, atol=1e-6
    )
    name = "vit_model.vision_model.embeddings.patch_embedding.weight"
    copy_checkpoint(tmp_path, lambda t: t.update({name: np.ascontiguousarray(patch_linear_to_conv(t[name]))}))
    got, whole = (names.load(folder, config)["vit"]["patch_embedding"]["kernel"] for folder in (tmp_path, CKPT))
    np.testing.assert_array_equal(got, whole)


def test_fresh_parameters_have_the_checkpoints_structure(config):
    fresh = jax.eval_shape(Bagel(config).init, jax.random.key(0))
    loaded = names.load(CKPT, config)
    assert jax.tree.structure(fresh) == jax.tree.structure(loaded)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, fresh, loaded))
