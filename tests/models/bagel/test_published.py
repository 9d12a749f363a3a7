"""Published folders: import and export are exact, and wrong folders are refused with one message that says all."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sgt_jax.errors import CheckpointError
from sgt_jax.models.bagel.export import export_published
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.models.bagel.published import config_from_folder, load_published
from tests.support import paths, plain_weights
from tests.support.golden_checkpoint import CKPT, FILES, TABLES, as_bf16, copied, edit, same_tensors, same_tree


@pytest.fixture
def folder(tmp_path):
    """A copy of the golden checkpoint that a test may damage."""
    return copied(tmp_path / "ckpt")


# -- There and back


@pytest.mark.parametrize("scan", [False, True])
def test_import_equals_the_plain_loader_and_the_models_own_tree(scan):
    config = config_from_folder(CKPT, scan_layers=scan)
    found = load_published(CKPT, config)
    plain = plain_weights.load(CKPT, config)
    same_tree(found.params, jax.tree.map(jnp.asarray, plain))
    fresh = jax.eval_shape(Bagel(config).init, jax.random.key(0))
    assert jax.tree.structure(fresh) == jax.tree.structure(found.params)
    assert all(a.shape == b.shape for a, b in zip(jax.tree.leaves(fresh), jax.tree.leaves(found.params)))


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
def test_every_tensor_comes_back_bit_for_bit(folder, tmp_path, scan, bf16):
    if bf16:
        as_bf16(folder)
    found = load_published(folder, config_from_folder(folder, scan_layers=scan))
    assert {x.dtype for x in jax.tree.leaves(found.params)} == {jnp.dtype("bfloat16" if bf16 else "float32")}
    export_published(found.params, found.config, tmp_path / "out", copy_from=folder)
    for file in FILES:
        same_tensors(folder / file, tmp_path / "out" / file)
    again = load_published(tmp_path / "out")
    assert again.config == found.config
    same_tree(again.params, found.params)


def test_masters_are_float32_and_export_rounds_them(folder, tmp_path):
    as_bf16(folder)
    found = load_published(folder, dtype="float32")
    assert {x.dtype for x in jax.tree.leaves(found.params)} == {jnp.dtype("float32")}
    export_published(found.params, found.config, tmp_path / "out", "bfloat16")
    same_tensors(folder / "ema.safetensors", tmp_path / "out" / "ema.safetensors")
    # The autoencoder keeps its own dtype.
    assert {x.dtype.name for x in load_file(tmp_path / "out" / "ae.safetensors").values()} == {"float32"}


def test_files_are_copied_along(folder, tmp_path):
    (folder / "tokenizer.json").write_text("{}")
    (folder / "LICENSE").write_text("Apache-2.0")
    (folder / "model.safetensors.index.json").write_text("{}")
    (folder / "optimizer.pt").write_text("")
    (folder / ".cache").mkdir()
    (tmp_path / "vocab.json").write_text("{}")
    found = load_published(folder)
    lines = []
    export_published(
        found.params,
        found.config,
        tmp_path / "out",
        copy_from=folder,
        extra_files=[tmp_path / "vocab.json"],
        progress=lines.append,
    )
    names = {"golden_config.json", "llm_config.json", "vit_config.json", "sgt_config.json", *FILES}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names | {"tokenizer.json", "LICENSE", "vocab.json"}
    for name in ("llm_config.json", "vit_config.json", "golden_config.json", "LICENSE"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    assert len(lines) == 2 and "139 tensors" in lines[0]


def test_an_export_appears_whole_or_not_at_all(folder, tmp_path):
    found = load_published(folder)
    target = tmp_path / "out"
    with pytest.raises(CheckpointError, match="absent.json"):
        export_published(found.params, found.config, target, extra_files=[tmp_path / "absent.json"])
    with pytest.raises(KeyError):
        export_published({"decoder": found.params["decoder"]}, found.config, target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ckpt"]
    target.mkdir()
    export_published(found.params, found.config, target)
    with pytest.raises(CheckpointError, match="exists already"):
        export_published(found.params, found.config, target)


def test_the_folder_may_be_relative(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = load_published("ckpt")
    export_published(found.params, found.config, "out")
    same_tensors(folder / "ema.safetensors", tmp_path / "out" / "ema.safetensors")


# -- What is read, recomputed, initialised


def test_tables_are_read_for_inference_and_recomputed_for_training(folder):
    def damage(tensors):
        for name in TABLES:
            tensors[name] = tensors[name] + 1

    exact = load_published(folder)
    edit(folder / "ema.safetensors", damage)
    as_bf16(folder)
    read, recomputed = load_published(folder), load_published(folder, tables="recompute")
    for name in ("latent_pos_embed", "vit_pos_embed"):
        table = recomputed.params[name]["table"]
        assert table.dtype == jnp.float32
        assert np.array_equal(table, exact.params[name]["table"])
        assert not np.allclose(read.params[name]["table"].astype("float32"), table, atol=0.5)
        assert f"{name}.pos_embed" in recomputed.summary and name not in read.summary
    edit(folder / "ema.safetensors", lambda t: [t.pop(name) for name in TABLES])
    same_tree(load_published(folder, exact.config, tables="recompute").params, recomputed.params)
    with pytest.raises(CheckpointError, match="2 missing"):
        load_published(folder, exact.config)


def test_absent_names_are_initialised_only_on_request(folder):
    whole = load_published(folder, scan_layers := config_from_folder(folder, scan_layers=True))
    edit(
        folder / "ema.safetensors", lambda t: [t.pop(n) for n in list(t) if "_moe_gen" in n or n.startswith("llm2vae")]
    )
    with pytest.raises(CheckpointError, match="missing"):
        load_published(folder, scan_layers)
    found = load_published(folder, scan_layers, initialise=("_moe_gen", "^llm2vae"))
    decoder = found.params["decoder"]
    same_tree(decoder["layers"]["gen"], whole.params["decoder"]["layers"]["und"])
    same_tree(decoder["norm_gen"], decoder["norm_und"])
    assert decoder["norm_gen"]["scale"].unsafe_buffer_pointer() != decoder["norm_und"]["scale"].unsafe_buffer_pointer()
    assert not np.any(found.params["llm2vae"]["kernel"])
    assert "initialised: language_model.model.layers.0.input_layernorm_moe_gen.weight" in found.summary
    assert "llm2vae.weight" in found.summary.splitlines()[-1]
    same_tree(found.params["vit"], whole.params["vit"])
    # Without the copying rule they are fresh.
    config = scan_layers.replace(copy_init_moe=False)
    fresh = load_published(folder, config, initialise=("_moe_gen", "^llm2vae")).params["decoder"]["layers"]["gen"]
    kernel = np.asarray(fresh["q_proj"]["kernel"])
    assert 0.01 < kernel.std() < 0.03
    assert not np.allclose(kernel, whole.params["decoder"]["layers"]["und"]["q_proj"]["kernel"])


def test_half_a_stack_is_not_initialised(folder):
    edit(folder / "ema.safetensors", lambda t: t.pop("language_model.model.layers.1.mlp_moe_gen.up_proj.weight"))
    config = config_from_folder(folder, scan_layers=True)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp_moe_gen\.up_proj\.weight.*together"):
        load_published(folder, config, initialise=("_moe_gen",))


def test_the_summary_counts():
    summary = load_published(CKPT, dtype="bfloat16").summary
    assert summary.splitlines() == [
        f"restored from {CKPT}, as bfloat16",
        "  ema.safetensors: 139 tensors, 324,160 values, float32",
        "  ae.safetensors: 120 tensors, 658,283 values, float32",
        "  recomputed: nothing",
        "  initialised: nothing",
    ]


# -- Layouts of files


def test_shards_with_an_index(folder):
    whole = load_published(folder)
    tensors = load_file(folder / "ema.safetensors")
    (folder / "ema.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-0000{1 + i % 3}-of-00003.safetensors" for i, name in enumerate(names)}
    for shard in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    same_tree(load_published(folder).params, whole.params)
    # The autoencoder may be listed there as well.
    vae = load_file(folder / "ae.safetensors")
    index.write_text(json.dumps({"weight_map": places | dict.fromkeys(vae, "ae.safetensors")}))
    same_tree(load_published(folder).params, whole.params)


def test_a_release_with_only_the_finetuned_weights(folder, tmp_path):
    release = tmp_path / "release"
    release.mkdir()
    (folder / "ema.safetensors").rename(release / "ema.safetensors")
    with pytest.raises(CheckpointError, match="no llm_config.json"):
        load_published(release)
    same_tree(load_published(release, base=folder).params, load_published(CKPT).params)


def test_raw_weights_of_a_training_folder(folder):
    with pytest.raises(CheckpointError, match="no model.safetensors"):
        load_published(folder, weights="params")
    (folder / "ema.safetensors").rename(folder / "model.safetensors")
    edit(folder / "model.safetensors", lambda t: t.update({"llm2vae.bias": t["llm2vae.bias"] + 1}))
    raw = load_published(folder, config_from_folder(CKPT), weights="params")
    assert np.array_equal(raw.params["llm2vae"]["bias"], load_published(CKPT).params["llm2vae"]["bias"] + 1)


# -- Sharded

SHARDED = """
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"
import jax, numpy as np
from jax.sharding import NamedSharding
from sgt_jax.models.bagel.export import export_published
from sgt_jax.models.bagel.published import config_from_folder, load_published
from sgt_jax.parallel.partitioning import make_mesh, spec_for

folder, out = sys.argv[1:3]
mesh = make_mesh({"fsdp": 2, "tensor": 2})
config = config_from_folder(folder, scan_layers=True)
place = lambda path, shape: NamedSharding(mesh, spec_for(path, shape, mesh))
found = load_published(folder, config, sharding=place, tables="recompute")
whole = load_published(folder, config)
assert jax.tree.structure(found.params) == jax.tree.structure(whole.params)
split = 0
for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(whole.params)):
    assert len(a.sharding.device_set) == 4 and np.array_equal(a, b)
    split += not a.is_fully_replicated
assert split > 20
export_published(found.params, config, out)
print("fine")
"""


def test_sharded_over_four_devices(tmp_path):
    folders = [str(CKPT), str(tmp_path / "out")]
    result = subprocess.run(
        [sys.executable, "-c", SHARDED, *folders], capture_output=True, text=True, timeout=300, cwd=paths.REPOSITORY
    )
    assert result.stdout == "fine\n", result.stderr
    for file in FILES:
        same_tensors(CKPT / file, tmp_path / "out" / file)
