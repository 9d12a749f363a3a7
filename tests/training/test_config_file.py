"""Configs from files with overrides: one function for training, studies, commands and plans, with one kind of error."""

import argparse

import pytest
from absl import app, flags

from sgt_jax.commands import configured
from sgt_jax.data.proxies import PROXIES
from sgt_jax.data.tasks import given_options
from sgt_jax.errors import ConfigError
from sgt_jax.training import checks, config_file
from tests.support.paths import REPOSITORY

CONFIGS = REPOSITORY / "configs"
NANO, BAGEL = f"{CONFIGS}/nano.py", f"{CONFIGS}/bagel_7b_sgt.py"


def test_values_take_the_type_of_their_field():
    config = config_file.load(
        BAGEL, ["ema_decay=0", "data.rows=32", "mesh={'fsdp': 8}", "model.remat=dots", "freeze=('^vae/', 'pos=embed')",
                "report=False", "data.canvases=((512, 512),)"],
    )  # fmt: skip
    assert type(config.ema_decay) is float and config.data.rows == 32 and config.mesh.to_dict() == {"fsdp": 8}
    assert config.model.remat == "dots" and config.freeze == ("^vae/", "pos=embed") and config.report is False
    assert config.data.canvases == ((512, 512),)
    assert config.is_locked and config.model.is_locked
    assert config_file.load(f"{BAGEL}:local").name == "bagel_local_sgt"


@pytest.mark.parametrize("overrides", [
    ["mesh.fsdp=2"], ["mesh.tensor=2"], ["mesh.context=2"], ["mesh.fsdp=-1", "mesh.data=1"], ["model.attention=blockwise"],
    ["data.stages=({'steps': 4, 'weights': {}},)"], ["evaluate_at_start=False"], ["compilation_cache=/tmp/x"],
    ["sampling.t2i.steps=20"], ["sampling.palette=class"], ["optimizer.muon_learning_rate=0.01"],
    ["schedule.final_fraction=0.1"], ["accumulate=2"], ["profile=(3, 2)"], ["family=bagel"],
    ["init_strip_prefix=module."],
], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("name", ["nano", "nano_sgt", "nano_pretrain", "nano_vae", "bagel_7b_sgt"])
def test_optional_fields_are_in_every_shipped_config(name, overrides):
    config = config_file.load(f"{CONFIGS}/{name}.py", overrides)
    field, _, value = overrides[0].partition("=")
    node = config
    for part in field.split("."):
        node = node[part]
    assert str(node) == value


@pytest.mark.parametrize("name, part", [("nano", "proxy"), ("nano_sgt", "proxy"), ("bagel_7b_sgt", "segmentation")])
def test_an_option_of_a_proxy_can_be_overridden_and_unset_it_is_the_proxys_default(name, part):
    field = f"data.mixture.{part}.options.palette"
    for override, given in (((), {}), ((f"{field}=class",), {"palette": "class"})):
        config = config_file.load(f"{CONFIGS}/{name}.py", override)
        options = given_options(config.data.mixture[part].to_dict())
        assert {key: value for key, value in options.items() if key == "palette"} == given
        checks.check_proxies(config.to_dict(), PROXIES)
    if name != "bagel_7b_sgt":  # what another proxy lacks is no hindrance while it is unset
        other = config_file.load(f"{CONFIGS}/{name}.py", [f"data.mixture.{part}.proxy=reconstruction"])
        checks.check_proxies(other.to_dict(), PROXIES)


def test_shipped_configs_have_the_same_fields():
    """What one has and another lacks could not be overridden there."""
    names = ("nano", "nano_sgt", "nano_pretrain", "nano_vae", "bagel_7b_sgt")
    configs = {name: config_file.load(f"{CONFIGS}/{name}.py") for name in names}
    parts = ("", "data", "mesh", "schedule", "optimizer", "checkpoint", "sampling", "sampling.t2i.guidance")
    for part in parts:
        fields = {}
        for name, node in configs.items():
            for step in filter(None, part.split(".")):
                node = node[step]
            fields[name] = set(node)
        assert len(set(map(frozenset, fields.values()))) == 1, f"{part or 'config'}: {fields}"
    by_task = {}
    for name, config in configs.items():
        for part, spec in config.data.mixture.items():
            by_task.setdefault(spec.task, {})[f"{name}.{part}"] = frozenset(spec)
    for task, fields in by_task.items():
        assert len(set(fields.values())) == 1, f"{task}: {fields}"


@pytest.mark.parametrize("file, overrides, words", [
    (NANO, ["totl_steps=4"], "--config has no field 'totl_steps'; did you mean 'total_steps'?"),
    (BAGEL, ["model.rmat=dots"], "--config has no field 'rmat'; did you mean 'remat'?"),
    (NANO, ["checkpoint.zzz=1"], "--config has no field 'zzz'; config.checkpoint has every, keep"),
    (NANO, ["total_steps.x=1"], "--config.total_steps.x: config.total_steps is a value and has no field 'x'"),
    (NANO, ["total_steps=many"], "--config: --config.total_steps=many: invalid literal for int"),
    (NANO, ["total_steps"], "an override reads FIELD=VALUE, such as model.remat=dots, and not 'total_steps'"),
    (NANO, ["--total_steps=3"], "an override reads FIELD=VALUE"),
    ("nowhere.py", [], "--config: no config file nowhere.py"),
    (str(CONFIGS), [], "--config: no config file"),
    (f"{NANO}:large", [], "nano.py has no variants, so not 'large'"),
    (f"{BAGEL}:huge", [], "--config: no variant huge of this config; there are benchmarks, pixels"),
])  # fmt: skip
def test_errors_name_the_field_and_the_remedy(file, overrides, words):
    with pytest.raises(ConfigError) as caught:
        config_file.load(file, overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_fault_inside_a_config_keeps_its_traceback(tmp_path):
    """The line in the reader's own file is what helps."""
    (tmp_path / "mine.py").write_text("def get_config():\n    return {}['x']\n")
    with pytest.raises(KeyError, match="x"):
        config_file.load(str(tmp_path / "mine.py"))
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match="has no function get_config"):
        config_file.load(str(tmp_path / "empty.py"))


def test_config_and_overrides_stand_anywhere_among_other_arguments():
    given = config_file.split(
        ["--config.seed", "7", "OUT", "--source", "x", "-n", "4", f"--config={NANO}", "--noconfig.report", "--limit=-1"]
    )
    assert (given.file, given.config.seed, given.config.report) == (NANO, 7, False)
    assert given.rest == ["OUT", "--source", "x", "-n", "4", "--limit=-1"]
    assert config_file.split(["--config", NANO, "OUT"]).rest == ["OUT"]
    assert config_file.split(["--configure", "x"]) == config_file.Given(
        "", given.config.__class__(), ["--configure", "x"]
    )
    with pytest.raises(ConfigError, match="give --config=FILE"):
        config_file.split(["--config.seed=7"])


def test_commands_leave_with_one_line_and_status_2(capsys):
    parser = argparse.ArgumentParser(prog="sgt_jax x")
    parser.add_argument("--limit", type=int)
    options, config = configured.parse(parser, [f"--config={NANO}", "--limit", "3", "--config.total_steps=9"])
    assert (options.limit, config.total_steps) == (3, 9)
    for arguments, words in (
        ([f"--config={NANO}", "--config.totl_steps=9"], "error: --config has no field 'totl_steps'; did you mean"),
        (["--config=nowhere.py"], "error: --config: no config file nowhere.py"),
        (["--limit=3"], "--config=FILE is required"),
    ):
        with pytest.raises(SystemExit) as stopped:
            configured.parse(parser, arguments)
        assert stopped.value.code == 2 and words in capsys.readouterr().err


def test_absl_programs_get_the_loaded_config(monkeypatch):
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    monkeypatch.setattr(app, "parse_flags_with_usage", lambda argv: values(argv))
    assert config_file.parse_flags(["main", f"--config={NANO}", "--config.seed=5", "--workdir=w"]) == ["main"]
    assert values.config.seed == 5 and values.workdir == "w"
    with pytest.raises(SystemExit, match="error: --config has no field 'sed'; did you mean 'seed'?"):
        config_file.parse_flags(["main", f"--config={NANO}", "--config.sed=5"])
