"""A published checkpoint is trained, converted and loaded again: each step continues where the last one ended."""

from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from sgt_jax.models.bagel.published import config_from_folder, load_published
from sgt_jax.training import loop
from sgt_jax.training.publishing import publish
from tests.support import paths
from tests.support import tiny_experiment as tiny

CKPT = paths.GOLDEN / "bagel" / "ckpt"


def run_from(folder: Path, workdir: Path):
    """Five steps from a published folder; the final state."""
    config = tiny.config(total_steps=5)
    config.init_from = str(folder)
    config.model.scan_layers = True
    # The golden model sees patches of 4 pixels and paints latent tokens of 4 pixels.
    config.data.vit_size = dict(stride=4, min_size=32, max_size=32)
    config.data.budgets = {"und": 384, "vit": 192, "gen": 192, "labels": 24, "pixels:32x32": 3}
    config.optimizer = dict(name="adamw", learning_rate=1e-3, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.0, clip=1.0)
    return loop.train(config, str(workdir))


@pytest.mark.slow
def test_import_train_convert_import_continues(tmp_path, capfd):
    state = run_from(CKPT, tmp_path / "run")
    printed = capfd.readouterr()
    assert "ema.safetensors: 137 tensors, 303,680 values, float32" in printed.out + printed.err
    assert "recomputed: latent_pos_embed.pos_embed, vit_pos_embed.pos_embed" in printed.out + printed.err
    for weights in ("params", "ema"):
        out = tmp_path / weights
        publish(tmp_path / "run", out, weights, "float32")
        found = load_published(out, config_from_folder(out, scan_layers=True))
        expected = state.weights(weights)
        assert jax.tree.structure(found.params) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(expected)):
            assert np.array_equal(a, b)
        golden, trained = (load_file(folder / "ema.safetensors") for folder in (CKPT, out))
        moved = [name for name in golden if not np.array_equal(golden[name], trained[name])]
        assert len(moved) > 130 and not any("pos_embed" in name for name in moved)
        assert load_file(CKPT / "ae.safetensors").keys() == load_file(out / "ae.safetensors").keys()
        assert (out / "llm_config.json").read_bytes() == (CKPT / "llm_config.json").read_bytes()
    again = run_from(tmp_path / "params", tmp_path / "continued")
    assert int(again.step) == 5 and int(again.skipped) == 0
    for a, b in zip(jax.tree.leaves(again.params["vae"]), jax.tree.leaves(state.params["vae"])):
        assert np.array_equal(a, b)
    head = [x["decoder"]["lm_head"]["kernel"] for x in (again.params, state.params)]
    assert 0 < np.abs(np.asarray(head[0]) - np.asarray(head[1])).max() < 0.02  # five small steps away
