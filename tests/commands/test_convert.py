"""`python -m sgt_jax convert`: a run's checkpoint becomes a published folder, read array by array."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file

from sgt_jax import trees
from sgt_jax.checkpoints.exporting import published_arrays
from sgt_jax.checkpoints.runs import RunCheckpoints
from sgt_jax.checkpoints.stored import StoredWeights
from sgt_jax.commands import convert
from sgt_jax.data.text.tokenizer import NANO_FILE
from sgt_jax.errors import CheckpointError
from sgt_jax.models.autoencoder import flux_names
from sgt_jax.models.bagel import names, tokenizer_files
from sgt_jax.models.bagel.published import config_from_folder, load_published
from sgt_jax.training.publishing import publish
from sgt_jax.training.state import TrainState
from tests.support import paths

CKPT = paths.GOLDEN / "bagel" / "ckpt"
FREEZE = ("^vae/", "pos_embed")


def make_run(workdir: Path, scan: bool, ema: bool = True, chunked: bool = False):
    """A work directory at step 7 whose raw weights are the golden ones, and whose EMA is 1 more; returns the EMA."""
    config = config_from_folder(CKPT, scan_layers=scan)
    params = load_published(CKPT, config).params
    trainable, frozen = trees.split_trainable(params, FREEZE)
    average = jax.tree.map(lambda x: x + 1, trainable) if ema else {}
    state = TrainState(jnp.int32(7), params, average, {"mu": jnp.zeros(3)}, jnp.int32(0))
    if chunked:
        args = jax.tree.map(
            lambda x: ocp.SaveArgs(chunk_byte_size=1 << 14, shard_axes=(0,) if x.ndim else ()), state._asdict()
        )
        with ocp.CheckpointManager((workdir / "checkpoints").absolute()) as manager:
            manager.save(7, args=ocp.args.Composite(state=ocp.args.StandardSave(state._asdict(), save_args=args)))
    else:
        checkpoints = RunCheckpoints(workdir, asynchronous=False)
        checkpoints.save(7, state._asdict(), {"0": {}})
        checkpoints.close()
    settings = {"model": config.to_dict(), "data": {"tokenizer": "package:nano/tokenizer.json"}}
    (workdir / "config.json").write_text(json.dumps(settings))
    return published_arrays(trees.merge(average, frozen) if ema else params, names.name_map(config))


def test_weights_of_a_run(tmp_path, capsys):
    average = make_run(tmp_path / "run", scan=True)
    assert convert.main([str(tmp_path / "run"), str(tmp_path / "out"), "--dtype", "f32"]) == 0
    assert convert.main([str(tmp_path / "run"), str(tmp_path / "raw"), "--weights", "params", "--dtype=f32"]) == 0
    assert convert.main([str(tmp_path / "run"), str(tmp_path / "half")]) == 0
    printed = capsys.readouterr().out
    assert "ema of step 7" in printed and "params of step 7" in printed and "139 tensors" in printed
    for file in (names.MODEL_FILE, flux_names.VAE_FILE):
        golden = load_file(CKPT / file)
        out, raw, half = (load_file(tmp_path / name / file) for name in ("out", "raw", "half"))
        assert out.keys() == raw.keys() == half.keys() == golden.keys()
        for name in golden:
            assert np.array_equal(raw[name], golden[name])
            assert np.array_equal(out[name], average[name])
            moved = file == names.MODEL_FILE and "pos_embed" not in name
            assert np.array_equal(out[name], golden[name] + 1 if moved else golden[name])
            kind = ml_dtypes.bfloat16 if file == names.MODEL_FILE else np.float32
            assert half[name].dtype == kind and np.array_equal(half[name], out[name].astype(kind))
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == NANO_FILE.read_bytes()
    again = load_published(tmp_path / "out")
    assert again.config.special_tokens.bos_token_id == 1  # the tokenizer's, not Qwen's
    assert again.config.vae == config_from_folder(CKPT).vae


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("chunked", [False, pytest.param(True, marks=pytest.mark.slow)])  # 20 s
def test_however_the_arrays_are_stored(tmp_path, scan, chunked):
    average = make_run(tmp_path / "run", scan, chunked=chunked)
    stored = StoredWeights(tmp_path / "run")
    if chunked and scan:
        assert stored("decoder/layers/und/q_proj/kernel")._store.chunk_layout.read_chunk.shape[0] == 1
    publish(tmp_path / "run", tmp_path / "out", dtype="float32")
    for file in (names.MODEL_FILE, flux_names.VAE_FILE):
        for name, array in load_file(tmp_path / "out" / file).items():
            assert np.array_equal(array, average[name])


def test_other_files_come_from_where_the_run_started(tmp_path, capsys):
    make_run(tmp_path / "run", scan=False)
    start = tmp_path / "start"
    shutil.copytree(CKPT, start)
    (start / "LICENSE").write_text("Apache-2.0")
    settings = json.loads((tmp_path / "run" / "config.json").read_text()) | {"init_from": str(start)}
    (tmp_path / "run" / "config.json").write_text(json.dumps(settings))
    publish(tmp_path / "run", tmp_path / "out")
    assert (tmp_path / "out" / "LICENSE").read_text() == "Apache-2.0"
    assert (tmp_path / "out" / "llm_config.json").read_bytes() == (CKPT / "llm_config.json").read_bytes()
    shutil.rmtree(start)
    assert convert.main([str(tmp_path / "run"), str(tmp_path / "again")]) == 0
    assert "is gone" in capsys.readouterr().out
    assert not (tmp_path / "again" / "LICENSE").exists()


def test_a_folder_holds_every_file_that_evaluation_toolkits_open(tmp_path):
    """A 7B run names Qwen's tokenizer.json alone; here a small one of the same kind."""
    import tokenizers

    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator(["a red circle left of a blue square"] * 3, vocab_size=290, min_frequency=1)
    trained.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"])
    trained.save(str(tmp_path / "tokenizer.json"))
    make_run(tmp_path / "run", scan=False)
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    settings["data"]["tokenizer"] = str(tmp_path / "tokenizer.json")
    (tmp_path / "run" / "config.json").write_text(json.dumps(settings))
    publish(tmp_path / "run", tmp_path / "out")
    weights = {names.MODEL_FILE, flux_names.VAE_FILE}
    assert {path.name for path in (tmp_path / "out").iterdir()} >= weights | set(tokenizer_files.NEEDED)
    again = tokenizers.ByteLevelBPETokenizer(str(tmp_path / "out/vocab.json"), str(tmp_path / "out/merges.txt"))
    text = "a blue circle, right of something else"
    assert again.encode(text).ids == trained.encode(text).ids and len(again.encode(text).ids) < len(text)
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    named = {int(number): token["content"] for number, token in config["added_tokens_decoder"].items()}
    assert named[trained.token_to_id("<|im_end|>")] == config["eos_token"] == "<|im_end|>"


def test_errors_are_one_line(tmp_path, capsys):
    run = tmp_path / "run"
    make_run(run, scan=False, ema=False)
    for arguments, why in (
        ([str(tmp_path / "absent"), str(tmp_path / "out")], "is not a folder"),
        ([str(run), str(tmp_path / "out")], "keeps no EMA"),
        ([str(run), str(tmp_path / "out"), "--weights=params", "--step=3"], "holds only 7"),
        ([str(run), str(run), "--weights=params"], "exists already"),
    ):
        assert convert.main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and why in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_model(tmp_path):
    make_run(tmp_path / "run", scan=True)
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    settings["model"]["scan_layers"] = False
    (tmp_path / "run" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="holds no parameter decoder/layers_0"):
        publish(tmp_path / "run", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_a_damaged_checkpoint(tmp_path):
    make_run(tmp_path / "run", scan=False)
    state = tmp_path / "run" / "checkpoints" / "7" / "state"
    for path in [*state.glob("d/*"), *state.glob("ocdbt.process_0/d/*")]:
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="run/checkpoints/7/state"):
        publish(tmp_path / "run", tmp_path / "out")
    (state / "_METADATA").unlink()
    with pytest.raises(CheckpointError, match="not a checkpoint of a run"):
        publish(tmp_path / "run", tmp_path / "out")
