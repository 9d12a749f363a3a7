"""The command `sgt`: what it lists, and that a mistake in typing is one line with what was meant, before any work."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from sgt_jax.__main__ import COMMANDS, DOORS, GROUPS, LAUNCHERS, listing, main
from sgt_jax.errors import ConfigError, nearest
from sgt_jax.training import config_file
from tests.support.paths import REPOSITORY

# What somebody types -> what the one line must hold.
MISTAKES = [
    ("smaple", "did you mean 'sample'?"),
    ("trian --config=nano", "did you mean 'train'?"),
    ("evalute", "did you mean 'evaluate'?"),
    ("sereve", "did you mean 'serve'?"),
    ("stduy", "did you mean 'study'?"),
    ("inspect_data", "did you mean 'inspect-data'?"),
    ("xyzzy", "sgt lists them all"),
    ("launch", "name a launcher: gke, local, slurm, tpu"),
    ("launch slrum", "did you mean 'slurm'?"),
    ("launch cloud", "there are gke, local, slurm, tpu"),
]
CONFIGS = [
    ("nano_sgd", [], "did you mean 'nano_sgt'?"),
    ("bagel7b_sgt", [], "did you mean 'bagel_7b_sgt'?"),
    ("study/ratoi", [], "did you mean 'study/ratio'?"),
    ("nothing like it", [], "there are bagel_7b_sgt"),
    ("configs/nano_sgd.py", [], "did you mean 'configs/nano_sgt.py'?"),
    ("elsewhere/nano_sgt.py", [], "give the name: --config=nano_sgt"),
    ("bagel_7b_sgt:v5p_2x2x5", [], "v5p_2x2x4"),
    ("nano_sgt:short", [], "no variant short of this config; there are sft"),
    ("nano_pretrain:short", [], "has no variants"),
    ("nano_sgt", ["total_step=3"], "did you mean 'total_steps'?"),
    ("nano_sgt", ["data.mixture.proxy.proxi=edges"], "did you mean 'proxy'?"),
    ("nano_sgt", ["optimizer.learning_rat=1"], "did you mean 'learning_rate'?"),
    ("nano_sgt", ["total_steps=many"], "total_steps"),
    ("nano_sgt", ["total_steps"], "reads FIELD=VALUE"),
]


def test_every_command_stands_in_one_group_and_the_list_names_it():
    names = [name for names in GROUPS.values() for name in names]
    assert sorted(names) == sorted([*COMMANDS, *DOORS])
    shown = re.findall(r"^  ([\w-]+) +\S", listing(), re.MULTILINE)
    assert shown == names and {"train", "study", "serve", "evaluate", "launch"} <= set(shown)
    assert {path.stem for path in (REPOSITORY / "launch").glob("*.py")} - {"__init__", "shell"} == set(LAUNCHERS)


@pytest.mark.parametrize(("typed", "said"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_misspelt_command_is_one_line_with_the_right_one(typed, said, capsys):
    assert main(typed.split()) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and said in err


@pytest.mark.parametrize(("file", "overrides", "said"), CONFIGS, ids=[f"{c[0]} {c[1]}" for c in CONFIGS])
def test_a_misspelt_config_or_field_is_one_line_with_the_right_one(file, overrides, said, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(ConfigError, match=re.escape(said)) as error:
        config_file.load(file, overrides)
    assert "\n" not in str(error.value)


def test_shipped_configs_go_by_name_and_files_still_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = config_file.load("nano_sgt")
    (tmp_path / "mine.py").write_text("from sgt_jax.configs import nano_sgt\nget_config = nano_sgt.get_config\n")
    assert shipped == config_file.load("mine.py") == config_file.load(str(REPOSITORY / "configs/nano_sgt.py"))
    assert config_file.load("bagel_7b_sgt:local").name == "bagel_local_sgt"
    files = {
        path.relative_to(REPOSITORY / "configs").with_suffix("").as_posix()
        for path in (REPOSITORY / "configs").rglob("*.py")
    }
    assert set(config_file.shipped()) == {name for name in files if name.split("/")[-1] not in ("__init__", "common")}


def test_nearest_suggests_only_what_is_near():
    assert nearest("segmentatoin", ["segmentation", "edges"]) == "did you mean 'segmentation'?"
    assert nearest("quux", ["segmentation", "edges"]) == ""


def sgt(*words: str, folder=None, python: str = sys.executable) -> tuple[int, str, str, float]:
    """Status, output, errors and seconds of a real process."""
    start = time.monotonic()
    done = subprocess.run([python, "-m", "sgt_jax", *words], cwd=folder, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr, time.monotonic() - start


def test_flags_that_do_not_exist_are_one_line_and_no_fatal(tmp_path):
    """absl would print FATAL and a usage text; two processes, as absl's flags are global."""
    for words, said in (
        (["train", "--config=nano_sgt", "--workdri=x"], "Did you mean: workdir"),
        (["train", "--config=nano_sgt"], "give --workdir=..."),
    ):
        status, out, err, _ = sgt(*words, folder=tmp_path)
        assert status == 1 and not out and err.startswith("error: ") and err.count("\n") == 1 and said in err


def test_the_doctor_tells_versions_and_devices(tmp_path, capsys, monkeypatch):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^jax +0\.", out, re.MULTILINE) and re.search(r"^devices +4 x cpu", out, re.MULTILINE)
    monkeypatch.setattr("shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and type("U", (), {"free": 1e8}))
    assert main(["doctor"]) == 1 and "0.1 GB left" in capsys.readouterr().err


def installed(folder: Path) -> Path:
    """The Python of an environment with a wheel of the repository, beside the packages that these tests run with."""
    pip = [sys.executable, "-m", "pip"]
    # In isolation pip brings what builds a wheel; setuptools before 70.1 alone does not.
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", folder, REPOSITORY], check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    (site,) = (folder / "env/lib").glob("python*/site-packages")
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", site, wheel], check=True, timeout=300)
    others = Path(importlib.util.find_spec("jax").origin).parents[1]
    (site / "others.pth").write_text(f"{others}\n")
    return folder / "env/bin/python"


@pytest.mark.slow  # builds a wheel, makes an environment and starts six processes in it
@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="builds a wheel: needs pip")
def test_a_wheel_works_outside_of_the_repository(tmp_path):
    run = functools.partial(sgt, folder=tmp_path, python=str(installed(tmp_path)))
    assert run("--version")[:2] == (0, "sgt_jax 0.1.0\n")
    show = "import sgt_jax, sgt_jax.configs; print(sgt_jax.__file__, *sgt_jax.configs.__path__)"
    python = [tmp_path / "env/bin/python", "-c", show]
    where = subprocess.run(python, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert str(REPOSITORY) not in where and where.count(str(tmp_path)) == 2
    assert run("train", "--config=nano_sgd", "--workdir=x")[2].endswith("did you mean 'nano_sgt'?\n")
    assert "usage" in run("launch", "tpu", "--help")[1]
    status, _, err, _ = run("sample", "--checkpoint", "package:nano", "t2i", "a red circle", "--out", "c.png")
    assert status == 0 and (tmp_path / "c.png").exists(), err
    short = "from sgt_jax.configs import nano_sgt\n\ndef get_config():\n    c = nano_sgt.get_config()\n"
    short += "    c.evaluators = dict()\n    return c\n"
    (tmp_path / "short.py").write_text(short)
    status, _, err, _ = run("train", "--config=short.py", "--workdir=run", "--config.total_steps=2")
    assert status == 0 and (tmp_path / "run/report.html").exists(), err


def test_importing_the_package_is_quick_and_needs_no_jax():
    """Its cost over a bare Python's in processor time, the least of five: 50 ms at most."""
    code = "import sys, time; t = time.process_time(); import sgt_jax; print(time.process_time() - t, 'jax' in sys.modules)"
    run = functools.partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = [run().stdout.split() for _ in range(5)]
    assert min(float(seconds) for seconds, _ in told) < 0.05 and {has for _, has in told} == {"False"}


def test_load_is_the_one_of_inference():
    import sgt_jax
    from sgt_jax.inference.load import load

    assert sgt_jax.load is load
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = sgt_jax.lode


def test_sampling_does_not_import_what_only_training_data_need():
    """scipy.ndimage takes 0.4 of three seconds."""
    code = "import sys, sgt_jax.inference.load; assert 'scipy.ndimage' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
