"""`plan` without a compiler: topologies, out-of-memory messages, tables and errors; with libtpu, two shipped configs."""

import functools
import importlib.util
import json
import math

import jax
import pytest
from sgt_jax.configs import bagel_7b_sgt, omnigen2_sgt

from sgt_jax.commands import plan
from sgt_jax.models import family as families
from sgt_jax.parallel import hardware, partitioning
from sgt_jax.planning import compiling, painting, planning
from sgt_jax.planning.request import Request
from sgt_jax.training.config_file import load

CONFIG = "configs/bagel_7b_sgt.py"


def test_topologies():
    chip, sides = hardware.parse_topology("v5p:2x2x4")
    assert (chip.name, hardware.chips_in(sides)) == ("v5p", 16)
    chip, sides = hardware.parse_topology("h100:8")
    assert (chip.name, hardware.chips_in(sides), chip.tpu) == ("h100", 8, False)
    for bad in ("v5p:4x4", "v5e:2x2x2", "h100:8x2", "h100:0", "v5e", "v6e:0x4", "v4:2x2x2"):
        with pytest.raises(ValueError, match="is not like v5p:2x2x4"):
            hardware.parse_topology(bad)
    assert hardware.chip_of("TPU v5 lite").name == "v5e" and hardware.chip_of("cpu") is None


def test_messages_of_the_compiler():
    message = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 16.2G of 15.75G hbm. "
    message += "Exceeded hbm capacity by 460.5M."
    assert compiling.out_of_memory(message) == pytest.approx(460.5 * 2**20)
    early = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (58.75G) exceeds "
    )
    assert compiling.out_of_memory(early + "available HBM (31.25G).") == 27.5 * 2**30
    assert compiling.out_of_memory("INVALID_ARGUMENT: no") is None


@functools.cache
def shapes_of(file):
    """The family of a config, and the shapes of its parameters."""
    config = load(file)
    family = families.of_config(config)
    return family, jax.eval_shape(family.model(family.config(config.model.to_dict())).init, jax.random.key(0))


@pytest.mark.parametrize(
    "file, document, slots, name",
    [
        (file, document, slots, name)
        for file, document, slots in ((CONFIG, bagel_7b_sgt, 16384), ("configs/omnigen2_sgt.py", omnigen2_sgt, 12800))
        for name in (*document.TPUS, *document.GPUS)
    ],
)
def test_hardware_variants_have_a_row_per_chip(file, document, slots, name):
    config = load(f"{file}:{name}")
    chips = (document.TPUS | document.GPUS)[name]
    if name in document.TPUS:
        assert hardware.chips_in(hardware.parse_topology(name.replace("_", ":", 1))[1]) == chips
        assert config.model.attention == "tpu"
    # Rows that a chip does not hold at once, it takes one after the other.
    assert config.data.rows == chips * config.accumulate
    # Its mesh divides rows, heads and every kernel.
    mesh = partitioning.make_mesh(config.mesh, chips)
    family, shapes = shapes_of(file)
    partitioning.check_rows(config.data.rows, mesh, config.accumulate)
    for axis, sizes in family.divisible(family.config(config.model.to_dict())).items():
        partitioning.check_divides(mesh, axis, sizes)
    shardings = partitioning.tree_shardings(shapes, mesh)
    parts = zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True)
    held = sum(math.prod(sharding.shard_shape(x.shape)) for x, sharding in parts)
    assert held < 2 / chips * sum(x.size for x in jax.tree.leaves(shapes))
    small = name == "1x24gb_lora" and file == CONFIG  # rows of a quarter, four times as many
    assert config.data.budgets.und + config.data.budgets.gen == (slots // 4 if small else slots)


def test_overrides():
    config = load(CONFIG, ["model.remat=dots", "data.rows=32", "mesh={'fsdp': 8}"])
    assert (config.model.remat, config.data.rows, config.mesh.to_dict()) == ("dots", 32, {"fsdp": 8})
    with pytest.raises(ValueError, match="no field 'rmat'; did you mean 'remat'"):
        load(CONFIG, ["model.rmat=dots"])
    with pytest.raises(ValueError, match="no config file nowhere.py"):
        load("nowhere.py")


RESULT = dict(
    untrained=["freeze=X: train less"],
    config=CONFIG,
    masters=True,
    overrides=[],
    topology="v5e:4x8",
    chips=32,
    mesh={"data": 1, "fsdp": 32, "tensor": 1, "context": 1},
    rows=32,
    steps=8_000,
    checkpoint=234e9,
    keep=2,
    accumulate=1,
    remat="full",
    slots_per_chip=16384,
    executed={"matmul": 8e14, "attention": 1e14},
    state={"parameters": 2e9, "ema": 2e9, "optimizer": 4e9, "gradients": 2e9, "batch": 1e6},
    moved=4e11,
    needed={"und": 6e14},
    attention_blocks={"decoder": 0.2, "vit": 0.3},
    capacity=15.75 * 2**30,
    seconds=60.0,
    roofline=dict(
        compute=4.5, memory=0.5, interconnect=0.4, overlapped=4.5, serial=5.4, mfu_overlapped=0.67, mfu_serial=0.56
    ),
)


def test_what_does_not_fit_says_by_how_much_and_what_to_do(monkeypatch, capsys):
    found = dict(RESULT, fits=False, over=65 * 2**20, peak=15.75 * 2**30 + 65 * 2**20)
    found["advice"] = planning.advice(found)
    monkeypatch.setattr(plan, "plan", lambda *_, **__: found)
    monkeypatch.setattr(plan, "require_compiler", lambda: None)
    arguments = ["--config", CONFIG, "--topology", "v5e:4x8"]
    assert plan.main(arguments) == 1
    text = capsys.readouterr().out
    assert "DOES NOT FIT by 0.06 GiB" in text and "model.remat=full_offload" in text and "train less" in text
    assert plan.main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["over"] == 65 * 2**20


def test_what_fits(monkeypatch, capsys):
    collective = {"kind": "all-gather", "axes": "fsdp", "count": 84, "bytes": 8e10}
    found = dict(RESULT, fits=True, over=0.0, peak=14e9, temporaries=5e9, host=0, collectives=[collective], advice=[])
    monkeypatch.setattr(plan, "plan", lambda *_, **__: found)
    monkeypatch.setattr(plan, "require_compiler", lambda: None)
    assert plan.main(["--config", CONFIG, "--topology", "v5e:4x8"]) == 0
    text = capsys.readouterr().out
    assert "FITS, 2.71 free" in text and "all-gather" in text and "MFU 67%" in text
    assert "All 8,000 steps take 10.0 to 12.0 h, 320 to 384 chip-hours" in text
    assert "a checkpoint takes 234.0 GB" in text and "(checkpoint.keep=2): 702 GB" in text


@pytest.mark.parametrize(("accumulate", "chips", "status"), [(1, 16, 0), (1, 4, 1)])
def test_estimate_needs_no_compiler(monkeypatch, capsys, accumulate, chips, status):
    found = {k: v for k, v in RESULT.items() if k not in ("roofline", "seconds", "capacity")}
    found |= {"mesh": {"data": 1, "fsdp": chips, "tensor": 1, "context": 1}, "accumulate": accumulate}
    found |= {"guess": 200 * 2**30 / chips, "sent": {"weights": 1e10, "activations": 0.0}}
    monkeypatch.setattr(planning, "analyse", lambda *_: found)
    monkeypatch.setattr(planning, "compile_elsewhere", None)
    assert (
        plan.main(["--estimate", "--config", CONFIG, "--topology", "v5e:4x4" if chips == 16 else "v5e:2x2"]) == status
    )
    text = capsys.readouterr().out
    assert "not compiled" in text and ("FITS, 3.25 free" if chips == 16 else "DOES NOT FIT by 34.25 GiB") in text


def test_one_line_errors(capsys):
    assert plan.main(["--config", CONFIG, "--topology", "v5x:2"]) == 2
    assert plan.main(["--config", "nowhere.py", "--topology", "v5e:2x2"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2


@pytest.mark.parametrize("options", [[], ["--search"], ["--thorough"]], ids=" ".join)
def test_a_missing_compiler_is_found_before_anything_is_traced(monkeypatch, capsys, options):
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(planning, "analyse", lambda *_: pytest.fail("it traced the step first"))
    assert plan.main(["--config", CONFIG, "--topology", "v5e:2x2", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: libtpu") and "pip install 'sgt_jax[plan]'" in error and error.count("\n") == 1


# The smallest slices take as long as the largest: a program is compiled for one chip of many. CI takes the first two.
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'sgt_jax[plan]'")
@pytest.mark.parametrize("name", ["v6e_8x8", "v5p_2x2x4", "v6e_4x4", "v5p_2x2x1", "v5e_8x8", "v5e_4x8"])
def test_shipped_configs_fit(name):
    result = compiling.compile_elsewhere(f"{CONFIG}:{name}", [], name.replace("_", ":", 1))
    assert result["fits"]
    assert result["arguments"] > 2**30 and (result["host"] > 2**30) == (name == "v5e_4x8")
    assert {c["axes"] for c in result["collectives"]} == {"fsdp"}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'sgt_jax[plan]'")
@pytest.mark.parametrize("name", omnigen2_sgt.TPUS)
def test_shipped_configs_of_omnigen2_fit(name):
    result = compiling.compile_elsewhere(f"configs/omnigen2_sgt.py:{name}", [], name.replace("_", ":", 1))
    assert result["fits"] and result["arguments"] > 2**30


@pytest.mark.slow
@pytest.mark.parametrize("file, gib", [(CONFIG, 22.0), ("configs/omnigen2_sgt.py", 22.0)])
def test_a_card_of_24_gb_holds_adapters_over_integers(file, gib, capsys):
    assert plan.main(["--config", f"{file}:1x24gb_lora", "--topology", "rtx4090:1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["peak"] <= gib * 2**30 and not found["masters"]
    assert found["checkpoint"] < 1.2 * 2**30  # adapters and their moments alone


SAMPLE = ["--mode", "sample", "--config", "configs/omnigen2_sgt.py"]
OF_WIDTH = 1024 * 1024 * 128 * 2  # bytes of an array of the decoder's last stage


def test_a_picture_on_a_gpu_is_counted(capsys):
    assert plan.main([*SAMPLE, "--topology", "h200:1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["size"] == [1024, 1024] and (found["steps"], found["branches"]) == (50, 2) and not found["compiled"]
    # 3.97 and 3.75 billion parameters, and 84 million of the autoencoder.
    assert found["parameters"] == pytest.approx(2 * 7.806e9, rel=1e-3)
    paint, decode = (found["programs"][name] for name in ("painting", "decoding"))
    assert found["peak"] == max(paint["guess"], decode["guess"]) and 4 * OF_WIDTH < decode["beside"] < 6 * OF_WIDTH
    # Parameters of the joint layers times tokens, steps and branches, and attention on top.
    assert paint["flops"]["matmul"] == pytest.approx(2 * 3e9 * (4096 + 192) * 50 * 2, rel=0.1)

    # The same, as if it were eight in float32, on a smaller card.
    found["request"] |= {"pictures": 8, "dtype": "float32"}
    found |= {"capacity": 15 * 2**30, "fits": False, "over": found["peak"] - 15 * 2**30}
    text = painting.table(found | {"advice": painting.advice(found)})
    assert "8 pictures of 1024 x 1024" in text and "DOES NOT FIT by" in text and "rule of thumb" in text
    assert text.count("advice: ") == 4 and "--num 1" in text and "--dtype bfloat16" in text


@pytest.mark.parametrize(
    "options, message",
    [
        (["--topology", "v5p:2x2x1"], "a request is sampled on one chip; give v5p:1x1x1"),
        (["--topology", "h200:8"], "give h200:1"),
        (["--topology", "h200:1", "--size", "1024"], "--size 1024: write it as WIDTHxHEIGHT"),
        (["--topology", "h200:1", "--num", "0"], "--num and --prompt-tokens count from 1"),
        (["--topology", "v5p:1x1x1", "--search"], "--search ranks training steps"),
    ],
)
def test_a_picture_that_cannot_be_planned_is_one_line(options, message, capsys, monkeypatch):
    monkeypatch.setattr(plan, "require_compiler", lambda: None)
    assert plan.main([*SAMPLE, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_size_that_the_model_does_not_paint_is_one_line(capsys):
    local = ["--mode", "sample", "--config", "configs/omnigen2_sgt.py:local", "--topology", "h200:1", "--size"]
    assert plan.main([*local, "4096x4096"]) == 2
    assert "error: this model paints pictures of 8 to 2048 pixels a side, not 4096x4096" in capsys.readouterr().err


def test_a_picture_on_a_tpu_is_what_the_compiler_says(monkeypatch, capsys):
    asked = []

    def compile_elsewhere(config, overrides, topology, thorough, painted):
        asked.append((painted["program"], painted["request"]["size"], thorough))
        if painted["program"] == "decoding" and thorough:
            return {"fits": False, "over": 2**30, "largest": []}
        found = dict(arguments=15 * 2**30, outputs=2**20, temporaries=2**30, program=0, host=0, collectives=[])
        return found | {"fits": True, "over": 0.0}

    monkeypatch.setattr(painting, "compile_elsewhere", compile_elsewhere)
    for module in (plan, painting):
        monkeypatch.setattr(module, "require_compiler", lambda: None)
    local = ["--mode", "sample", "--config", "configs/omnigen2_sgt.py:local", "--topology", "v5p:1x1x1", "--size", "32x16"]
    config, chip = local[3], hardware.CHIPS["v5p"]
    known = json.dumps(painting.counted(config, [], chip, Request(size=(16, 32))))
    monkeypatch.setattr(painting, "counted", lambda *_: json.loads(known))
    assert plan.main(local) == 0
    text = capsys.readouterr().out
    assert asked == [("painting", (16, 32), False), ("decoding", (16, 32), False)]
    assert "peak            16.00   of 95.74: FITS, 79.74 free" in text and "% too little" in text
    assert plan.main([*local, "--thorough"]) == 1
    assert "DOES NOT FIT by 1.00 GiB" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'sgt_jax[plan]'")
def test_a_picture_of_omnigen2_is_painted_on_one_chip(capsys):
    assert plan.main([*SAMPLE, "--topology", "v5p:1x1x1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["compiled"] and found["peak"] < 20 * 2**30
    assert found["guess"] == pytest.approx(found["peak"], rel=0.15)  # the rule of thumb that GPUs are planned by


def test_what_is_compiled_is_refused_for_gpus(capsys):
    assert plan.main(["--config", f"{CONFIG}:8xh100", "--topology", "h100:8", "--search"]) == 2
    assert "--search compiles what it ranks" in capsys.readouterr().err
