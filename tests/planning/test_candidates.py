"""`plan --search` without a compiler: what is ranked before what, and which are compiled."""

import json

import jax
import pytest

from sgt_jax import trees
from sgt_jax.commands import plan
from sgt_jax.errors import ConfigError, PlanError
from sgt_jax.parallel import hardware, partitioning
from sgt_jax.planning import candidates, estimate, planning
from sgt_jax.planning.step import plan_step
from sgt_jax.training.config_file import load

CONFIG = "configs/bagel_7b_sgt.py:v6e_8x8"
V6E = hardware.CHIPS["v6e"]


def facts(guess=10e9, compute=9e14, weights=1e10, activations=0.0):
    sent = dict(weights=weights, activations=activations)
    return dict(guess=guess, executed={"matmul": compute}, needed={"und": 7e14}, moved=1e11, sent=sent)


def test_what_fits_comes_first_then_what_is_fast_then_what_sends_less():
    order = {
        "remat=full accumulate=1": facts(),
        "remat=full accumulate=2": facts(weights=2e10),  # hidden behind the products: as fast, but more to hide
        "remat=full accumulate=4": facts(weights=0.0, activations=1e10),  # waited for, though less in all
        "remat=full_offload accumulate=1": facts(compute=9.5e14),
        "remat=dots accumulate=1": facts(compute=8e14, guess=40e9),  # fastest, and too large
    }
    asked = []

    def analyse(changes):
        mesh, remat, accumulate = changes
        asked.append(mesh)
        if mesh != "mesh={'data': 1, 'fsdp': 64, 'tensor': 1, 'context': 1}":
            raise ConfigError("does not divide")
        return order.get(f"{remat.removeprefix('model.')} {accumulate}") or facts(guess=50e9)

    found = candidates.ranked(analyse, V6E, 64)
    assert [" ".join(one.changes[1:]).replace("model.", "") for one in found[:5]] == list(order)
    assert (found[4].remat, found[4].guess) == ("dots", 40e9)
    # Every mesh was tried; of those that do not divide, fsdp_transpose of 2, 4 and 8, if 4 x 4 leaves so many chips.
    assert len(found) == 9 and len(set(asked)) == 1 + 7 * 4 + 3


def test_meshes_that_the_chips_cannot_make_are_not_tried():
    def analyse(changes):
        assert "'fsdp': 0" not in changes[0]
        return facts()

    assert len(candidates.ranked(analyse, V6E, 2)) == 3 * 3 * 3  # 1x1, 2x1, 1x2


@pytest.fixture(scope="module")
def planned():
    return plan_step(load(CONFIG), partitioning.make_mesh({"fsdp": 64}, 64))


def test_each_way_to_cut_up_the_model_has_its_price(planned):
    def sent(accumulate=1, **mesh):
        config = load(CONFIG)
        other = plan_step(config, partitioning.make_mesh(mesh, 64), planned.state)
        return estimate.sent_bytes(other, accumulate)

    plain, tensor, context = sent(fsdp=64), sent(fsdp=32, tensor=2), sent(fsdp=32, context=2)
    # 14.69 G parameters: bfloat16 weights twice, float32 gradients once.
    assert plain["weights"] == pytest.approx(8 * 14.69e9, rel=0.02) and plain["activations"] == 0
    assert sent(2, fsdp=64)["weights"] == 2 * plain["weights"]
    # Each chip needs half of every weight, and sums two rows of 16k slots in 28 layers, twice in each of three passes.
    assert tensor["weights"] == pytest.approx(plain["weights"] / 2, rel=0.02)
    assert tensor["activations"] == 3 * 28 * 2 * 2 * 16384 * 3584 * 2
    # Only keys and values travel, of 4 heads instead of 28.
    assert 0 < context["activations"] == tensor["activations"] / 7
    # Copies that hold everything only sum gradients.
    assert sent(data=64)["weights"] == pytest.approx(2 * 4 * 14.69e9, rel=0.03)


def test_little_lies_whole_on_every_chip(planned):
    whole = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(planned.state.params):
        if leaf.sharding.shard_shape(leaf.shape) == leaf.shape:
            whole[trees.path_name(path)] = leaf.size * 4
    assert sum(whole.values()) < 24 * 2**20, sorted(whole.items(), key=lambda one: -one[1])[:5]


def test_search_compiles_until_three_fit_and_learns_from_what_does_not(monkeypatch, capsys):
    gib = 2**30
    found = [
        candidates.Candidate(["a"], "dots", 30 * gib),  # the rule of thumb is 3 GiB too low for this policy
        candidates.Candidate(["b"], "dots", 29 * gib),  # so this one would not fit either, and is left out
        candidates.Candidate(["c"], "dots", 20 * gib),
        candidates.Candidate(["d"], "full", 15 * gib),
        candidates.Candidate(["e"], "full", 30 * gib),
        candidates.Candidate(["f"], "full", 16 * gib),
        candidates.Candidate(["g"], "full", 16 * gib),
    ]
    seconds = {"a": 1.0, "c": 3.0, "e": 2.0, "f": 2.5}
    tried = []
    monkeypatch.setattr(candidates, "ranked", lambda analyse, chip, chips: found)

    def compiled(config, overrides, topology, chip, chips, thorough):
        name = overrides[-1]
        tried.append(name)
        if name == "d":
            raise PlanError("no")
        guess = next(one.guess for one in found if one.changes == [name])
        peak = guess + (3 * gib if name in "ac" else 0)
        line = {"overlapped": seconds[name], "serial": 4.0}
        return {"overrides": overrides, "fits": peak < chip.memory, "peak": peak, "roofline": line}

    monkeypatch.setattr(planning, "plan", compiled)
    monkeypatch.setattr(plan, "require_compiler", lambda: None)  # libtpu; nothing is compiled here
    monkeypatch.setattr(planning, "require_compiler", lambda: None)
    arguments = ["--search", "--json", "--config", CONFIG, "--topology", "v6e:8x8", "data.rows=64"]
    assert plan.main(arguments) == 0
    out = capsys.readouterr()
    assert tried == ["a", "c", "d", "e", "f"]
    best_first = [["data.rows=64", name] for name in ("e", "f", "c", "a")]
    assert [r["overrides"] for r in json.loads(out.out)] == best_first
    assert out.err.endswith("error: d: no\n")
