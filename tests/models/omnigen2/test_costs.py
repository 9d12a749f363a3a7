"""OmniGen2's formulas of work and memory: against the traced step, and against sums done by hand. Nothing is computed."""

import pytest

from sgt_jax.batch import may_attend
from sgt_jax.models.family import by_name
from sgt_jax.models.omnigen2 import costs
from sgt_jax.parallel import partitioning
from sgt_jax.planning import accounting, estimate
from sgt_jax.planning.step import plan_step
from sgt_jax.training.config_file import load

CONFIG = "configs/omnigen2_sgt.py"
BUDGETS = {"und": 256, "vit": 512, "labels": 64, "text": 128, "gen": 256, "flow": 3}


def traced(variant, **budgets):
    """Products of the traced step of a toy, recomputing nothing and with attention as one product, and the formula's."""
    changes = ["model.remat=none", "model.attention=xla", "data.canvases=()", "data.rows=1"]
    config = load(f"{CONFIG}:{variant}", [*changes, f"data.budgets={BUDGETS | budgets}"])
    planned = plan_step(config, partitioning.make_mesh({}, 1))
    lanes = estimate.lane_lengths(planned)
    pairs = {name: sum(lanes.get(lane, 0) for lane in joined) ** 2 for name, joined in planned.costs.attention.items()}
    return accounting.count(planned.jaxpr()), planned.costs.training_flops(lanes, pairs, planned.freeze)


@pytest.mark.parametrize("variant, budgets", [("local", {}), ("local+frozen", {}), ("local+edits", {"ref": 128})])
def test_the_step_is_the_models_formula(variant, budgets):
    work, needed = traced(variant, **budgets)
    # The first layer of all has no gradient of its input, and the odd small product is not in the formula.
    assert 0.98 <= work.total / sum(needed.values()) <= 1.02 and not work.unknown_loops
    assert (needed["ref"] > 0) == bool(budgets)


def test_each_part_has_its_passes():
    model = by_name("omnigen2").config({})
    slots, pairs = dict.fromkeys(("und", "vit", "labels", "text", "ref", "gen", "flow"), 1), {}
    once = costs.forward_flops(model, slots, pairs)
    # Per token of the language model: 36 layers of 2048, 256 wide keys and values, 11008.
    assert once["und"] == 2 * 36 * (2048 * (2 * 2048 + 2 * 256) + 3 * 2048 * 11008)
    assert once["head"] == 2 * 2048 * 151936

    def passes(freeze, **changes):
        found = costs.training_flops(model.replace(**changes), slots, pairs, freeze)
        return {part: found[part] / once[part] for part in once}

    assert set(passes(()).values()) == {3}
    no_language = passes(("^mllm/",))
    assert no_language == {"und": 1, "vit": 1, "head": 1, "text": 3, "ref": 3, "gen": 3, "joint": 3}
    # A frozen transformer hands the gradient on to the language model, unless it is cut off.
    assert passes(("^dit/",)) == {"und": 3, "vit": 3, "head": 3, "text": 2, "ref": 1, "gen": 1, "joint": 2}
    assert passes(("^dit/",), freeze_mllm=True)["joint"] == 1
    assert passes(("^mllm/text",))["und"] == 2


def test_a_typical_row_is_full_and_sparse():
    config = load(f"{CONFIG}:v5p_2x2x1")
    budgets = config.data.budgets.to_dict()
    model = by_name("omnigen2").config(config.model.to_dict())
    row = by_name("omnigen2").costs(model).typical_row(budgets)
    assert set(row) == {"und", "windows", "vit", "text", "gen", "joint"}  # no references
    assert (row["gen"].sample > 0).mean() > 0.95 and (row["joint"].sample[0, budgets["text"] :] > 0).mean() > 0.95
    # One painting: a photo of 29 x 43 cells in windows of 4 x 4, and 4056 tokens to paint.
    row = by_name("omnigen2").costs(model).typical_row({"und": 1310, "vit": 5000, "text": 1310, "gen": 4060})
    pairs = {name: int(may_attend(info, info).sum()) for name, info in row.items()}
    assert pairs["windows"] == sum((4 * r * c) ** 2 for r in [4] * 7 + [1] for c in [4] * 10 + [3])
    assert pairs["vit"] == (4 * 29 * 43) ** 2 and pairs["gen"] == 4056**2
    assert pairs["joint"] == (29 * 43 + 60 + 4056) ** 2 and pairs["und"] == 1307 * 1308 // 2


def test_small_budgets_hold_a_smaller_painting():
    costs_of = by_name("omnigen2").costs(by_name("omnigen2").config({}))
    row = costs_of.typical_row({"und": 96, "vit": 192, "labels": 16, "text": 64, "gen": 48, "flow": 3})
    assert (row["gen"].sample > 0).any() and (row["und"].sample > 0).any()
