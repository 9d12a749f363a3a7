"""A run that trains adapters: frozen base, small checkpoints, exact resume, what it writes, and one line for what is wrong.

Slow: the golden model's step is compiled, and once more for every other number of devices.
"""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sgt_jax import trees
from sgt_jax.checkpoints import adapters
from sgt_jax.checkpoints.runs import restore_params
from sgt_jax.commands import convert
from sgt_jax.data.text.tokenizer import NANO_FILE
from sgt_jax.errors import UserError
from sgt_jax.inference import load
from sgt_jax.models import adapting, int8
from sgt_jax.models.bagel.published import config_from_folder, load_published
from sgt_jax.reporting.metrics import read_metrics
from sgt_jax.training import loop
from tests.support import paths, run_adapter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(work directory, final state) of six steps from a copy of the golden checkpoint."""
    folder = tmp_path_factory.mktemp("adapter")
    shutil.copytree(run_adapter.CKPT, folder / "base")
    shutil.copy(NANO_FILE, folder / "base")
    return folder / "run", jax.device_get(loop.train(run_adapter.config(folder / "base"), folder / "run"))


def asked(run, **changes):
    return run_adapter.config(run[0].parent / "base", **changes)


def cut(run, folder, step):
    """A copy of a run as it was at a step."""
    shutil.copytree(run[0], folder)
    for path in (folder / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > step:
            shutil.rmtree(path)
    return folder


def test_only_adapters_move_and_only_they_are_kept(run):
    workdir, state = run
    base = trees.flat(load_published(run_adapter.CKPT, config_from_folder(run_adapter.CKPT, scan_layers=True)).params)
    after = trees.flat(state.params)
    for path in base.keys() - {"latent_pos_embed/table", "vit_pos_embed/table"}:
        np.testing.assert_array_equal(after[path], base[path], err_msg=path)
    halves = {path for path in after if path.endswith(("/lora_a", "/lora_b"))}
    assert len(halves) == 2 * 14 and all(np.abs(after[path]).max() > 0 for path in halves)
    kept, _ = restore_params(workdir, "params")
    assert trees.flat(kept).keys() == halves == trees.flat(state.ema).keys()
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
    assert sum(x.size for x in moments) <= 2 * sum(after[path].size for path in halves) + 16  # and some counters
    assert sum(f.stat().st_size for f in (workdir / "checkpoints" / "6").rglob("*") if f.is_file()) < 1_500_000


def test_a_resumed_run_equals_one_without_interruption_to_the_bit(run, tmp_path):
    again = jax.device_get(loop.train(asked(run), cut(run, tmp_path / "run", 2)))
    jax.tree.map(np.testing.assert_array_equal, again, run[1])


def test_another_number_of_devices_gives_the_same_adapters(run, tmp_path):
    """On 8 devices to step 2, on 2 to step 4, on 8 to the end: sums in another order, so to rounding."""
    command = [sys.executable, "-m", "tests.support.run_adapter", str(tmp_path / "run"), *"8 2 2 4 8 6".split()]
    child = subprocess.run(command, cwd=paths.REPOSITORY, capture_output=True, text=True, timeout=1800)
    assert child.returncode == 0, child.stdout + child.stderr
    for text in (
        "8 cpu device(s), mesh data 4 x fsdp 2",
        "resuming at step 2",
        "2 cpu device(s)",
        "resuming at step 4",
    ):
        assert text in child.stdout
    losses = [
        {line["step"]: line["loss"] for line in read_metrics(w, kind="train")} for w in (tmp_path / "run", run[0])
    ]
    np.testing.assert_allclose(*([found[step] for step in range(1, 7)] for found in losses), rtol=1e-4)


def test_scan_remat_and_micro_batches_change_nothing(run, tmp_path):
    config = asked(run, dropout=0.0)
    first = loop.train(config, tmp_path / "one")
    config.model.remat, config.accumulate = "full", 2
    second = loop.train(config, tmp_path / "two")
    one, two = (trees.flat(state.params) for state in (first, second))
    for path in one:
        np.testing.assert_allclose(two[path], one[path], atol=2e-3 * np.abs(one[path]).max(), err_msg=path)


def test_what_it_writes_is_what_it_computes(run, tmp_path, capsys):
    workdir, state = run
    settings, adapter = adapters.read(workdir / "adapter")
    assert settings.rank == 2 and settings.alpha == 4.0 and len(adapter.modules) == 42
    base = str(workdir.parent / "base")
    assert json.loads((workdir / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == base
    own = trees.flat(_unstacked(load.load(workdir).params))
    plain, beside = (trees.flat(load.load(base, adapter=x).params) for x in (None, workdir / "adapter"))
    assert own.keys() == beside.keys()
    for path in own:
        np.testing.assert_allclose(own[path], beside[path], atol=1e-6, err_msg=path)
    assert sum(not np.array_equal(beside[path], plain[path]) for path in plain) == 42
    assert convert.main([str(workdir), str(tmp_path / "merged"), "--merge", "--dtype=f32"]) == 0
    for path, leaf in trees.flat(_unstacked(load.load(tmp_path / "merged").params)).items():
        np.testing.assert_allclose(leaf, beside[path], atol=1e-6, err_msg=path)
    assert load_file(tmp_path / "merged" / "ae.safetensors").keys() == load_file(f"{base}/ae.safetensors").keys()
    assert convert.main([str(workdir), str(tmp_path / "early"), "--adapter", "--step=2", "--weights=params"]) == 0
    early = adapters.read(tmp_path / "early")[1].modules
    assert early.keys() == adapter.modules.keys()
    assert max(np.abs(early[m].b - low.b).max() for m, low in adapter.modules.items()) > 1e-4
    assert "42 adapters, params of step 2" in capsys.readouterr().out


def _unstacked(params):
    from sgt_jax.models.stack import unstacked

    return {name: unstacked(part) if "layers" in part else part for name, part in params.items()}


def test_a_wrong_base_rank_or_kind_is_one_line(run, tmp_path, capsys):
    def refused(words, workdir, change):
        config = asked(run)
        change(config)
        with pytest.raises(UserError, match=words) as error:
            loop.train(config, workdir)
        assert "\n" not in str(error.value)

    workdir = cut(run, tmp_path / "run", 2)
    refused("another config: adapter.rank: 2 -> 3", workdir, lambda c: c.adapter.update(rank=3))

    def changed(**values):
        def change(config):
            config.resume = "changed"
            config.adapter.update(values)

        return change

    refused("adapters whose rank is 2, and config.adapter.rank is 3", workdir, changed(rank=3))
    refused("holds adapters, and config trains the whole model", workdir, changed(rank=0))
    base = tmp_path / "base"
    shutil.copytree(run_adapter.CKPT, base)
    tensors = load_file(base / "ema.safetensors")
    tensors["llm2vae.bias"][0] += 1e-3
    save_file(tensors, base / "ema.safetensors")
    workdir = cut(run, tmp_path / "other", 2)

    def elsewhere(config):
        config.resume, config.init_from = "changed", str(base)

    refused(f"adapters of a base with fingerprint .*, and {base} has", workdir, elsewhere)
    assert convert.main([str(run[0]), str(tmp_path / "x")]) == 1
    assert "trained adapters, not a model. Give --adapter" in capsys.readouterr().err
    assert convert.main([str(run[0]), str(run[0]), "--adapter"]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_base_of_integers_trains_resumes_and_is_what_the_run_has_to_say(run, tmp_path):
    config = asked(run, base_dtype="int8")
    state = jax.device_get(loop.train(config, tmp_path / "run"))
    leaves = trees.flat(state.params)
    integers = {path for path, leaf in leaves.items() if leaf.dtype == np.int8}
    assert len(integers) == 14 and all(f"{path}_scale" in leaves for path in integers)
    losses = [
        np.array([line["loss"] for line in read_metrics(w, kind="train")]) for w in (tmp_path / "run", run[0])
    ]
    assert 0 < np.abs(losses[0] / losses[1] - 1).max() < 0.01
    again = jax.device_get(loop.train(config, cut((tmp_path / "run", None), tmp_path / "again", 4)))
    jax.tree.map(np.testing.assert_array_equal, again, state)
    own = trees.flat(load.load(tmp_path / "run").params)
    averaged = trees.merge(state.ema, state.params)  # what is loaded
    folded = trees.flat(adapting.folded(int8.floating(averaged, "float32")))
    assert not any(leaf.dtype == np.int8 for leaf in own.values())
    path = "decoder/layers/gen/mlp/up_proj/kernel"
    np.testing.assert_allclose(own[path], folded[path], atol=1e-6)
    with pytest.raises(UserError, match="adapters of a base with fingerprint .* base_dtype"):
        config.resume, config.adapter.base_dtype = "changed", ""
        loop.train(config, tmp_path / "again")
