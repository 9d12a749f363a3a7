"""`bench` at toy sizes: every part runs and is counted; the ways to route agree, and cost what they should."""

import argparse
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.commands import bench
from sgt_jax.errors import ConfigError
from sgt_jax.models.attention import segment_info
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.decoder import Decoder
from sgt_jax.planning import accounting
from sgt_jax.timing import routing
from sgt_jax.timing import step as timing_step


@pytest.mark.slow
def test_parts_of_the_step(tmp_path, capsys):
    file = tmp_path / "bench.json"
    lanes = ["--und", "32", "--gen", "16", "--vit", "16", "--labels", "4"]
    arguments = ["--layers", "1", "--repeats", "1", "--json", str(file), "--data", "configs/nano.py", *lanes]
    assert bench.main(arguments) == 0
    rows = {row["part"]: row for row in json.loads(file.read_text())}
    assert {"step", "ViT, connector", "decoder", "attention, one layer", "optimizer", "data, one batch"} <= set(rows)
    assert all(row["seconds"] > 0 and row["of_peak"] is None for row in rows.values())
    assert rows["step"]["flops"] > rows["decoder"]["flops"] > rows["attention, one layer"]["flops"] > 0
    assert "GFLOP/s" in capsys.readouterr().out


@pytest.mark.slow  # the step of another family is compiled
def test_the_step_of_a_config(capsys):
    assert bench.main(["--step", "configs/omnigen2_sgt.py:local", "--repeats", "1"]) == 0
    step, forward = (line.split() for line in capsys.readouterr().out.splitlines()[2:])
    assert step[0] == "step" and float(step[2]) > 1.2 * float(forward[4]) > 0  # GFLOP


@pytest.mark.slow  # three programs are compiled
def test_what_it_costs_to_make_the_step(capsys):
    with pytest.raises(ConfigError, match="--step CONFIG"):
        bench.main(["--compile"])
    assert bench.main(["--compile", "--step", "configs/omnigen2_sgt.py:local"]) == 0
    rows = {line[:20].strip(): line[20:].split() for line in capsys.readouterr().out.splitlines()[1:]}
    operations = [int(rows[part][3].replace(",", "")) for part in ("loss, forward only", "loss and gradient", "step")]
    assert 0 < operations[0] < operations[1] < operations[2]
    assert all(float(value) > 0 for value in rows["step"][:3])


def small(**changes):
    llm = dict(
        hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=8,
    )  # fmt: skip
    return BagelConfig.from_dict(dict(timing_step.SIZES["nano"], llm=llm, scan_layers=True) | changes)


@pytest.mark.slow  # three decoders with their gradients are traced and compiled
def test_ways_to_route_give_the_same_numbers_and_cost_what_they_should():
    """Values and gradients of a decoder with the same weights; the other forms' products, per slot of either lane."""
    config, und, gen = small(), 6, 10
    infos = [segment_info(jnp.ones((1, n), jnp.int32), jnp.ones((1, n), jnp.int32)) for n in (und, gen)]
    keys = jax.random.split(jax.random.key(0), 3)
    x = [jax.random.normal(key, (1, n, 16)) for key, n in zip(keys, (und, gen))]
    params = jax.jit(functools.partial(Decoder(config).init, method="touch"))(keys[2], *x, *infos)["params"]
    # Weights of both experts differ, scales and biases too.
    leaves, tree = jax.tree.flatten(params)
    many = jax.random.split(keys[2], len(leaves))
    params = tree.unflatten([p + 0.3 * jax.random.normal(k, p.shape) for k, p in zip(many, leaves)])

    results, flops = {}, {}
    for name in routing.FORMS:
        decoder = routing.decoder(config, name)

        def loss(params, *x, decoder=decoder):
            h_und, h_gen, _ = decoder.apply({"params": params}, *x, *infos)
            return jnp.sum(jnp.sin(h_und)) + jnp.sum(jnp.cos(h_gen))

        step = jax.value_and_grad(loss, (0, 1, 2))
        results[name] = jax.jit(step)(params, *x)
        flops[name] = accounting.count(jax.make_jaxpr(loss)(params, *x)).total
    for name, found in results.items():
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(results["static lanes"])):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4, err_msg=name)
    dense = 2 * 2 * 16 * (16 + 2 * 8 + 16 + 3 * 40) * (und + gen)
    assert flops["static lanes"] == flops["ragged_dot"] > dense
    assert flops["both experts, then select"] == flops["static lanes"] + dense


def test_grouped_experts_take_one_row():
    config = small()
    info = segment_info(jnp.ones((2, 4), jnp.int32), jnp.ones((2, 4), jnp.int32))
    with pytest.raises(ValueError, match="take one row, not 2"):
        x = jnp.ones((2, 4, 16))
        jax.eval_shape(
            lambda: routing.decoder(config, "ragged_dot").apply({"params": {"layers": {}}}, x, x, info, info)
        )


def test_data_of_a_config_is_timed(monkeypatch):
    from sgt_jax.training import experiment

    class Batches:
        closed = False

        def __iter__(self):
            return self

        def __next__(self):
            return {}

        def close(self):
            self.closed = True

    batches = Batches()
    monkeypatch.setattr(experiment, "build", lambda config: argparse.Namespace(batches=lambda: batches))
    row = timing_step.data_row("configs/nano.py", 2)
    assert row["part"] == "data, one batch" and 0 <= row["seconds"] < 1 and batches.closed
    assert "data, one batch" in timing_step.table([row], False)
