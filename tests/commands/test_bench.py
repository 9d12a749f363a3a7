"""`bench` at toy sizes: every part runs and is counted; the routing forms agree, and cost what they should."""

import json

import jax
import numpy as np
import pytest

from sgt_jax.commands import bench


@pytest.mark.slow
def test_parts_of_the_step(tmp_path, capsys):
    file = tmp_path / "bench.json"
    lanes = ["--und", "32", "--gen", "16", "--vit", "16", "--labels", "4"]
    assert bench.main(["--layers", "1", "--repeats", "1", "--json", str(file), *lanes]) == 0
    rows = {row["part"]: row for row in json.loads(file.read_text())}
    assert {"step", "ViT, connector", "decoder", "attention, one layer", "optimizer"} <= set(rows)
    assert all(row["seconds"] > 0 and row["of_peak"] is None for row in rows.values())
    assert rows["step"]["flops"] > rows["decoder"]["flops"] > rows["attention, one layer"]["flops"] > 0
    assert "GFLOP/s" in capsys.readouterr().out


def test_routing_forms_are_equal_and_cost_what_they_should():
    class Options:
        width, und, gen = 16, 24, 40

    forms = bench.mot_forms(Options)
    results = {name: jax.jit(function)(*inputs) for name, (function, inputs) in forms.items()}
    for name, other in results.items():
        for a, b in zip(other, results["static lanes"]):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=name)
    flops = {row["part"]: row["flops"] for row in bench.measure(forms, 1)}
    assert flops["static lanes"] == flops["ragged_dot"] == 3 * 3 * 2 * 64 * 16 * 80
    assert flops["both experts, then select"] == 2 * flops["static lanes"]
