"""OmniGen2's pipeline folder: in, out, and in several files."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sgt_jax.errors import CheckpointError
from sgt_jax.models.family import by_name, of_folder
from tests.support import paths

GOLDEN = paths.GOLDEN / "omnigen2"
FAMILY = by_name("omnigen2")
WEIGHTS = (
    "transformer/diffusion_pytorch_model.safetensors", "mllm/model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)  # fmt: skip


@pytest.fixture
def base(tmp_path):
    """A pipeline folder: the recorded parts, and the files that a release has beside them."""
    folder = tmp_path / "base"
    for part in ("transformer", "mllm", "vae", "scheduler"):
        shutil.copytree(GOLDEN / part, folder / part)
    (folder / "model_index.json").write_text('{"_class_name": "OmniGen2Pipeline"}')
    (folder / "processor").mkdir()
    (folder / "processor" / "tokenizer.json").write_text("{}")
    return folder


def load(folder, scan, base=None):
    config = FAMILY.config_of_folder(folder, base, scan_layers=scan)
    return FAMILY.load(folder, config, base=base).params, config


@pytest.mark.parametrize("scan", [False, True])
def test_a_folder_comes_back_to_the_byte(base, tmp_path, scan):
    params, config = load(base, scan)
    FAMILY.save(params, config, tmp_path / "out", copy_from=base)
    names = sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.is_file())
    assert names == sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    for name in names:
        if name.endswith(".safetensors"):
            theirs, ours = load_file(base / name), load_file(tmp_path / "out" / name)
            assert set(theirs) == set(ours) and all(np.array_equal(x, ours[n]) for n, x in theirs.items()), name
        else:
            assert (base / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


def test_weights_in_several_files_go_back_into_them(base, tmp_path):
    path = base / WEIGHTS[0]
    tensors = load_file(path)
    places = {name: f"diffusion_pytorch_model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for file in set(places.values()):
        save_file({name: x for name, x in tensors.items() if places[name] == file}, path.with_name(file))
    path.unlink()
    size = sum(x.nbytes for x in tensors.values())
    index = json.dumps({"metadata": {"total_size": size}, "weight_map": places}, indent=2) + "\n"
    path.with_name(path.name + ".index.json").write_text(index)
    params, config = load(base, True)
    FAMILY.save(params, config, tmp_path / "out", copy_from=base)
    out = tmp_path / "out" / "transformer"
    assert (out / (path.name + ".index.json")).read_text() == index and not (out / path.name).exists()
    for file in set(places.values()):
        assert set(load_file(out / file)) == {name for name, place in places.items() if place == file}


def test_a_part_that_a_folder_lacks_comes_from_the_base(base, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(base / "transformer", own / "transformer")
    assert of_folder(own).name == "omnigen2"
    assert set(load(own, True, base)[0]) == {"dit", "mllm", "vae"}
    with pytest.raises(CheckpointError, match="mllm"):
        load(own, True)


def test_what_the_base_must_bring_is_named(base, tmp_path):
    params, config = load(base, True)
    (base / "model_index.json").unlink()
    shutil.rmtree(base / "processor")
    with pytest.raises(CheckpointError, match=r"lacks model_index.json, processor,"):
        FAMILY.save(params, config, tmp_path / "out", copy_from=base)
    assert not (tmp_path / "out").exists()


def test_the_tree_is_that_of_fresh_parameters(base):
    for scan in (False, True):
        params, config = load(base, scan)
        fresh = jax.eval_shape(FAMILY.model(config).init, jax.random.key(0))
        assert jax.tree.map(lambda x: x.shape, fresh) == jax.tree.map(lambda x: x.shape, params)
