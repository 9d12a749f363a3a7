"""Every number of a config is checked before anything is built or compiled."""

import importlib
import time

import jax
import pytest
from sgt_jax.configs import bagel_7b_sgt, nano

from sgt_jax.errors import ConfigError
from sgt_jax.training import checks, experiment, loop
from tests.support import tiny_experiment as tiny

WRONG = [
    ("accumulate", 0), ("data.rows", 0), ("data.rows", -1), ("data.pool_size", 0), ("ema_decay", 1.5), ("ema_decay", 1.0),
    ("ema_decay", float("nan")), ("log_every", -1), ("evaluate_every", -5), ("checkpoint.every", -1), ("checkpoint.keep", 0),
    ("total_steps", -1), ("seed", 2**63), ("seed", -1), ("data.seed", 2**40), ("optimizer.learning_rate", float("inf")),
    ("optimizer.learning_rate", -1.0), ("optimizer.b1", 1.0), ("optimizer.eps", 0.0), ("optimizer.clip", -1.0),
    ("schedule.warmup_steps", -1), ("data.mixture.proxy.weight", float("nan")), ("data.budgets.und", 0),
    ("data.dropout.text", 1.1), ("data.vit_size.stride", 0), ("model.llm.num_hidden_layers", 0), ("max_nonfinite", 0),
    ("model.llm.rope_theta", 0.0), ("cpu_devices", -1), ("data.prefetch", -1), ("data.read_threads", -1),
    ("sampling.t2i.steps", 0), ("objective.ce_weight", -1.0), ("evaluate_weights", "average"), ("data.on_bad", "ignore"),
]  # fmt: skip


@pytest.mark.parametrize("field, value", WRONG)
def test_a_wrong_value_is_one_line_that_names_the_field_before_anything_is_built(tmp_path, monkeypatch, field, value):
    monkeypatch.setattr(experiment, "build", lambda config: pytest.fail("built before it was checked"))
    monkeypatch.setattr(jax, "jit", lambda *a, **k: pytest.fail("compiled before it was checked"))
    config = tiny.config()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict({field: value})
    began = time.monotonic()
    with pytest.raises(ConfigError) as error:
        loop.train(config, tmp_path / "run")
    assert f"config.{field}" in str(error.value) and "\n" not in str(error.value)
    assert time.monotonic() - began < 10 and not (tmp_path / "run").exists()


@pytest.mark.parametrize("field, value, words", [
    ("evaluators", {"x": {"type": "nonsense"}}, "unknown type 'nonsense'"),
    ("evaluators", {"x": {"type": "loss", "source": "nowhere"}}, "no source 'nowhere'"),
    ("evaluators", {"x": {"type": "loss", "source": "held_out", "batches": 0}}, "config.evaluators.x.batches=0"),
    ("ema_decay", 0.0, "evaluate_weights=params"),
])  # fmt: skip
def test_names_and_switches_are_checked_too(field, value, words):
    config = tiny.config()
    with config.unlocked(), config.ignore_type():
        config[field] = value
    with pytest.raises(ConfigError, match=words):
        checks.check(config)


@pytest.mark.parametrize("field, value, words", [
    ("proxy", "segmentatoin", "did you mean 'segmentation'"),
    ("options", {"stile": "plain"}, r"has no option \['stile'\]"),
])  # fmt: skip
def test_a_proxy_is_known_before_scoring(tmp_path, monkeypatch, field, value, words):
    monkeypatch.setattr(jax, "jit", lambda *a, **k: pytest.fail("compiled before it was checked"))
    config = tiny.config()
    with config.unlocked():
        config.data.mixture.proxy[field] = value
    with pytest.raises(ConfigError, match=words):
        loop.train(config, tmp_path)


@pytest.mark.parametrize("field, value", [
    ("log_every", 0), ("evaluate_every", 0), ("checkpoint.every", 0), ("data.prefetch", 0), ("optimizer.clip", 0.0),
    ("total_steps", 0), ("cpu_devices", 0), ("seed", checks.SEEDS),
])  # fmt: skip
def test_zero_where_it_means_off_is_allowed(field, value):
    config = tiny.config()
    config.update_from_flattened_dict({field: value})
    checks.check(config)


def test_every_shipped_config_passes():
    for variant in ("", *bagel_7b_sgt.VARIANTS, "local+pixels"):
        checks.check(bagel_7b_sgt.get_config(variant))
    for name in ("nano", "nano_pretrain", "nano_sgt", "nano_vae"):
        checks.check(importlib.import_module(f"sgt_jax.configs.{name}").get_config())
    assert nano.get_config().resume == ""


@pytest.mark.slow  # 14 s
def test_intervals_of_zero_save_and_measure_at_the_end(tmp_path):
    config = tiny.config(total_steps=2, log_every=0, evaluate_every=0)
    config.checkpoint.every = 0
    config.data.prefetch = 0
    assert int(loop.train(config, tmp_path).step) == 2
    assert [p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()] == ["2"]
