"""A study loses at most the arm under way and changes no number; a proxy of one's own appears in it by name."""

import json
import os
import re
import subprocess
import sys

import pytest
from etils import epath
from sgt_jax.configs.study import proxies

from sgt_jax.data.proxies import PROXIES
from sgt_jax.errors import DataError
from sgt_jax.study import arms, records
from sgt_jax.study.run import run_study
from sgt_jax.study.workers import Pace, claimed
from sgt_jax.training.lock import locked
from tests.support.paths import REPOSITORY as ROOT
from tests.support.paths import helper
from tests.support.run_tiny_study import tiny_study

DOC = (ROOT / "docs" / "your_own_proxy.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    code = re.search(r"```python\n(.*?)```", DOC, re.DOTALL)[1]
    assert len(code.splitlines()) < 40
    (folder / "silhouette.py").write_text(code)
    return folder


def run(folder, name, die="never", expect=0):
    child = subprocess.run(
        helper("run_tiny_study", folder / "silhouette.py", folder / name, die), cwd=ROOT,
        capture_output=True, text=True, timeout=900,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
             "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"},
    )  # fmt: skip
    assert child.returncode == expect, child.stdout + child.stderr
    return child.stdout


def numbers(folder, name):
    """All records but for how long they took."""
    return [{k: v for k, v in r.items() if k != "timing"} for r in records.finished(folder / name / "results")]


@pytest.mark.slow
def test_killed_anywhere_and_restarted_it_ends_with_the_same_numbers(folder):
    out = run(folder, "straight", "keep")
    assert "run 5 of 5, arm silhouette, seed 1" in out and out.rstrip().endswith("report.html")
    straight = numbers(folder, "straight")
    assert [(r["arm"], r["seed"], r["steps"]) for r in straight] == [
        ("base", 0, 0), ("sft", 0, 4), ("sft", 1, 4), ("silhouette", 0, 4), ("silhouette", 1, 4)
    ]  # fmt: skip
    run(folder, "killed", "sft_0 3", expect=-9)
    assert {r["arm"] for r in numbers(folder, "killed")} == {"base"}
    run(folder, "killed", "silhouette_1 1", expect=-9)  # before its first checkpoint
    out = run(folder, "killed")
    assert out.count("== silhouette: run") == 1, "an arm that was done ran again"
    assert numbers(folder, "killed") == straight
    assert not list((folder / "killed" / "arms").glob("*/checkpoints"))
    assert (folder / "straight/arms/silhouette_1/checkpoints/4").is_dir(), "--keep keeps none"
    # The new proxy is in the report by its name, and an arm without a proxy trained on none.
    page = (folder / "straight" / "results" / "report.html").read_text()
    assert '<th scope="row">silhouette</th>' in page
    seen = {r["arm"]: r["samples"] for r in straight}
    assert seen["silhouette"]["proxy"] > 0 and "proxy" not in seen["sft"]
    # Other settings in the same folder are refused, with the file.
    changed = tiny_study(str(folder / "silhouette.py")) if "silhouette" not in PROXIES else None
    changed.base.optimizer.learning_rate = 2e-3
    with pytest.raises(DataError, match=r"base_0.json: is of other settings than config.arms.base"):
        run_study(changed, folder / "straight", folder / "straight" / "results")


def test_a_run_has_one_worker_at_a_time_and_a_dead_one_frees_it(tmp_path):
    path = tmp_path / "arms" / "sft_0.lock"
    claim = (
        "import sys, time; from sgt_jax.study.workers import claimed\n"
        "with claimed(sys.argv[1]) as mine: print(mine, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", claim, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        with claimed(path) as mine:
            assert not mine
        other.kill()
        other.wait()
        with claimed(path) as mine:
            assert mine


@pytest.mark.parametrize("flag", ["--steal-lock", "--steal_lock", ""])
def test_the_command_refuses_an_arm_where_a_run_works_in_one_line_or_steals_its_lock(tmp_path, flag):
    code = (
        "import sys, runpy; from sgt_jax.training import loop; from sgt_jax.training.lock import locked\n"
        "def train(config, folder, steal):\n"
        "    with locked(folder, steal): sys.exit('it trained')\n"
        "loop.run = train; runpy.run_module('sgt_jax.study', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", code, "--config=configs/study/baselines.py", f"--workdir={tmp_path}", "--only=base"]
    folder = tmp_path / "arms" / "base_0"
    folder.mkdir(parents=True)
    with locked(folder):
        done = subprocess.run([*command, *filter(None, [flag])], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    if flag:
        assert done.stderr == "it trained\n"
    else:
        assert re.fullmatch(rf"error: {folder}: process {os.getpid()} on .* works .*--steal-lock\n", done.stderr), done.stderr


def test_the_time_left_goes_by_what_all_workers_have_done(tmp_path, monkeypatch):
    paths = [epath.Path(tmp_path) / f"sft_{seed}.json" for seed in range(5)]
    now = iter((0.0, 600.0))
    monkeypatch.setattr("sgt_jax.study.workers.time.time", lambda: next(now))
    paths[0].touch()  # by an earlier call
    pace = Pace(paths)
    assert pace.left() == ""
    paths[1].touch()
    paths[2].touch()
    assert pace.left() == ", about 10 min left"  # five minutes a run, two are left


def test_a_worker_leaves_alone_what_another_one_works_on(tmp_path, monkeypatch, capsys):
    config = proxies.get_config()
    trained = []
    monkeypatch.setattr("sgt_jax.training.loop.run", lambda config, *_: trained.append(config.name) or 1 / 0)
    with claimed(tmp_path / "arms" / "base_0.lock"):
        run_study(config, tmp_path, tmp_path / "results", only=["base"])
    assert not trained and "arm base, seed 0 is under way in another process" in capsys.readouterr().out
    with pytest.raises(ZeroDivisionError):
        run_study(config, tmp_path, tmp_path / "results", only=["base"])
    assert trained == ["proxies base, seed 0"]


def test_the_command_skips_what_is_done_writes_the_report_and_says_where(tmp_path):
    source, results = ROOT / "docs" / "results" / "baselines", tmp_path / "results"
    (results / records.RUNS).mkdir(parents=True)
    for name in (records.ITEMS, f"{records.RUNS}/base_0.json"):
        (results / name).write_bytes((source / name).read_bytes())
    command = [sys.executable, "-m", "sgt_jax.study", "--config=configs/study/baselines.py", f"--workdir={tmp_path}"]
    done = subprocess.run([*command, "--only=base"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[1:] == [f"{results / 'report.html'}"], done.stdout + done.stderr
    assert "1 of 16 runs done" in (results / "report.html").read_text()


def test_runs_go_seed_by_seed_and_the_untrained_arm_needs_one():
    config = proxies.get_config()
    found = arms.runs(config)
    assert len(found) == 1 + 8 * 5 and [r.arm for r in found[:3]] == ["base", "sft", "depth"]
    assert found.count(arms.Run("base", 0)) == 1 and found[9] == arms.Run("sft", 1)


def test_arms_differ_in_what_they_say_and_in_nothing_else(tmp_path):
    config = proxies.get_config()
    made = {arm: arms.run_config(config, arms.Run(arm, 3)) for arm in config.arms}
    assert made["edges"].data.mixture.proxy.proxy == "edges" and made["base"].total_steps == 0
    assert made["sft"].data.mixture.proxy.weight == 0
    for arm, c in made.items():
        assert c.seed == c.data.seed == 3 and c.data.mixture.text_to_image.weight > 0, f"{arm}: no replay"
    edges, depth = (json.loads(made[arm].to_json_best_effort()) for arm in ("edges", "depth"))
    edges["data"]["mixture"]["proxy"]["proxy"] = "depth"
    assert {**edges, "name": ""} == {**depth, "name": ""}
    prints = {arms.fingerprint(c) for c in made.values()}
    assert len(prints) == len(made)
    made["edges"].log_every, made["edges"].cpu_devices = 7, 1
    assert arms.fingerprint(made["edges"]) in prints
    made["edges"].init_from = str(tmp_path)
    for content in (b"one", b"two"):  # the weights that a run starts from are a part of its settings
        (tmp_path / "ema.safetensors").write_bytes(content)
        prints.add(arms.fingerprint(made["edges"]))
    assert len(prints) == len(made) + 2
    (tmp_path / "transformer").mkdir()  # a sub-model
    (tmp_path / "transformer" / "part-1.safetensors").write_bytes(b"three")
    assert arms.fingerprint(made["edges"]) not in prints
    config.arms.sft.data.mixture.proxy.weigth = 1.0
    slip = "config.base.data.mixture.proxy.weigth, which is not there; did you mean 'weight'"
    with pytest.raises(ValueError, match=f"arm 'sft' does not fit config.base: it changes {slip}"):
        arms.run_config(config, arms.Run("sft", 0))


def test_a_field_added_later_is_no_part_of_the_fingerprint_while_it_is_neutral(monkeypatch):
    config = arms.run_config(proxies.get_config(), arms.Run("edges", 0))
    before = arms.fingerprint(config)
    added = {"courage": "none", "data.haste": 0, "data.a.b": None, "data.mixture.*.weather": "fair"}
    monkeypatch.setattr(arms, "_ADDED_LATER", arms._ADDED_LATER | added)
    assert arms.fingerprint(config) == before
    with config.unlocked():
        config.courage, config.data.haste = "none", 0
        config.data.mixture.proxy.weather = "fair"
    assert arms.fingerprint(config) == before
    config.data.haste = 1
    hasty = arms.fingerprint(config)
    config.courage, config.data.haste = "some", 0
    brave = arms.fingerprint(config)
    config.courage, config.data.mixture.proxy.weather = "none", "foul"
    assert len({before, hasty, brave, arms.fingerprint(config)}) == 4


def test_runs_recorded_without_a_family_are_of_bagel():
    config = arms.run_config(proxies.get_config(), arms.Run("edges", 0))
    with config.unlocked():
        if "family" in config:
            del config["family"]
        without = arms.fingerprint(config)
        config.family = "bagel"
    assert arms.fingerprint(config) == without
    config.family = "another"
    assert arms.fingerprint(config) != without


def test_every_proxy_of_the_study_is_known_and_every_word_of_it_is_in_the_vocabulary():
    import numpy as np

    from sgt_jax.data.proxies import make_pair
    from sgt_jax.data.sources import open_source
    from sgt_jax.data.text.tokenizer import Tokenizer

    spec = proxies.get_config().base.data.sources.painted.to_dict()
    example = open_source(spec)[0]
    for proxy in proxies.PROXIES:
        pair = make_pair(proxy, example, np.random.default_rng(0), style="plain")
        assert 0 not in Tokenizer.nano().encode(pair.instruction), pair.instruction
        assert pair.target.shape == (32, 32, 3)
