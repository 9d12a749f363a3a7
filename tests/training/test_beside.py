"""config.compare: another run's scores beside a run's own, paired item by item, or one clear line why not."""

import json
import re
import sys

import numpy as np
import pytest
from etils import epath

from sgt_jax import main
from sgt_jax.assets import resource
from sgt_jax.errors import ConfigError
from sgt_jax.evaluation.items import load_items, save_items
from sgt_jax.evaluation.result import Result
from sgt_jax.evaluation.schedule import Beside, collect_scores
from sgt_jax.reporting import run_page
from sgt_jax.training import beside, config_file, experiment, loop, resuming
from tests.support import tiny_experiment
from tests.support.paths import REPOSITORY

LABELS = {
    "masks": (("miou", "mask mIoU"), ("pq", "panoptic quality (class-agnostic)")),
    "prompts": (("accuracy", "GenEval-style accuracy"),),
}
ASKED = dict(type="answers", source="held_out", n=100, train_source="asked", train_n=10, max_new_tokens=3, batch=10)


def config(**changes):
    return tiny_experiment.config(**(dict(evaluators=dict(answers=dict(ASKED)), evaluate_weights="params") | changes))


def settings(c):
    return json.loads(c.to_json_best_effort())


def run(folder, c, right=(), step=20):
    """A work directory as a run of `c` leaves it, with answers right or wrong."""
    folder = epath.Path(folder)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings(c)))
    if len(right):
        n = len(right)
        items = dict(accuracy=list(map(int, right)), majority_accuracy=[0] * n, kind=["count"] * n)
        save_items(folder, step, "answers", Result(items))
    return folder


def find(c):
    return beside.find(c, settings(c))


def test_without_the_field_nothing_stands_beside():
    assert find(config()) == (None, "")


def test_a_run_scored_on_the_same_items_stands_beside_whatever_else_it_did(tmp_path):
    other = config(name="SFT", total_steps=7)
    other.data.mixture.proxy.weight = 0.0
    folder = run(tmp_path / "sft", other, [1, 0])
    assert find(config(compare=str(folder))) == (Beside("SFT", folder), "")


def test_what_is_no_run_or_not_scored_or_scored_otherwise_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="holds no run .config.json is missing.*did you mean"):
        run(tmp_path / "sft_run", config())
        find(config(compare=str(tmp_path / "sft_rnu")))
    with pytest.raises(ConfigError, match="was not scored"):
        find(config(compare=str(run(tmp_path / "b", config()))))
    more = config()
    more.evaluators.answers.n = 7
    with pytest.raises(ConfigError, match=r"scored on other items \(evaluators.answers.n: 7 -> 100\)"):
        find(config(compare=str(run(tmp_path / "c", more, [1]))))
    moved = config()
    moved.data.sources.held_out.seed = 77
    with pytest.raises(ConfigError, match="scored on other items .data.sources.held_out.seed: 77 -> "):
        find(config(compare=str(run(tmp_path / "d", moved, [1]))))


def test_a_stored_run_stands_beside_any_proxy_and_is_left_out_with_a_line_where_else_settings_differ(tmp_path, monkeypatch):
    arm = config(name="SFT")
    arm.data.mixture.proxy.weight = 0.0
    folder = run(tmp_path / "stored", arm, [1, 0])
    (folder / "made_by.txt").write_text("sgt train --config=mine:sft\n")
    monkeypatch.setattr(beside, "resource", lambda name: str(folder))
    edges = config(compare="package:nano_sft", log_every=3)
    edges.data.mixture.proxy.proxy = "edges"
    assert find(edges) == (Beside("SFT", folder, "sgt train --config=mine:sft"), "")
    found, why = find(config(compare="package:nano_sft", total_steps=3))
    assert found is None and "SFT does not stand beside this run" in why and "total_steps: 20 -> 3" in why
    fewer = config(compare="package:nano_sft")
    fewer.evaluators.answers.n = 5
    assert "evaluators.answers.n: 100 -> 5" in find(fewer)[1]
    harder = config(compare="package:nano_sft")
    harder.data.mixture.understanding.weight = 7.0
    assert "data.mixture.understanding.weight: 2.0 -> 7.0" in find(harder)[1]


def test_scores_are_paired_item_by_item_and_stand_in_columns_of_their_own(tmp_path):
    rng = np.random.default_rng(0)
    right = rng.random(100) < 0.5
    other = run(tmp_path / "sft", config(), right)
    mine = run(tmp_path / "sgt", config(), right | (np.arange(100) < 20))
    plain = collect_scores(mine, {"answers": ASKED})
    scores = collect_scores(mine, {"answers": ASKED}, Beside("SFT", other))
    assert scores[0].after == plain[0].after and scores[0].beside.value == right.mean()
    gained = (right | (np.arange(100) < 20)).mean() - right.mean()
    assert scores[0].over_beside.value == pytest.approx(gained) and scores[0].over_beside.low > 0
    head, line, *_ = run_page.plain_table(scores).splitlines()
    assert head.endswith("after − SFT") and f"+{100 * gained:.1f} [" in line
    assert "SFT" not in run_page.plain_table(plain)
    pages = [run_page.render({"scores": [s.to_dict() for s in each]}, [], tmp_path) for each in (scores, plain)]
    assert ["against SFT" in page for page in pages] == [True, False]


VARIANTS = '''
from tests.support import tiny_experiment

VARIANTS = ("sft",)

def get_config(variant=""):
    if variant not in ("", "sft"):
        raise ValueError(f"no variant '{variant}'")
    c = tiny_experiment.config(name=variant or "tiny")
    return c
'''


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.py").write_text(VARIANTS)
    return tmp_path / "mine.py"


def test_a_variant_of_the_file_is_an_arm_with_the_same_overrides(file):
    arguments = [f"--config={file}", "--config.compare=sft", "--config.total_steps=3", "--workdir=/tmp/x"]
    c = config_file.split(arguments).config
    arm = config_file.arm_to_compare(c, arguments)
    assert (arm.name, arm.total_steps, arm.compare) == ("sft", 3, "")
    for name in ("", "package:nano_sft", "runs/sft", str(file.parent)):
        c.compare = name
        assert config_file.arm_to_compare(c, arguments) is None
    c.compare = "stf"
    with pytest.raises(ConfigError, match="config.compare='stf': is no work directory of a run, and no variant of .*'sft'"):
        config_file.arm_to_compare(c, arguments)


def test_the_arm_is_trained_first_and_the_run_compares_itself_with_it(file, tmp_path, monkeypatch):
    trained = []

    def run(c, workdir, steal):
        trained.append((c.name, str(workdir), c.compare))
        return loop.Ended(None, c.name != "stopped")

    monkeypatch.setattr(loop, "run", run)
    monkeypatch.setattr(sys, "argv", ["main", f"--config={file}", "--config.compare=sft"])
    c = config_file.split(sys.argv[1:]).config
    assert main.run(c, str(tmp_path / "w"), first=main.check_first(c)) == 0
    assert trained == [("sft", f"{tmp_path}/w/sft", ""), ("tiny", f"{tmp_path}/w", f"{tmp_path}/w/sft")]
    monkeypatch.setattr(main, "STOPPED", type("Flag", (), {"value": 75}))
    stopped = tiny_experiment.config(name="stopped")
    c.compare = "sft"
    assert main.run(c, str(tmp_path / "w"), first=stopped) == 75 and len(trained) == 3


def test_the_arm_stored_in_the_package_is_that_of_the_readmes_command_as_it_ships():
    c = config_file.load("nano_sgt")
    found, why = beside.find(c, resuming.settings(c, experiment.model_config(c).to_dict()))
    assert why == "" and found.name == "SFT" and "configs/nano_sgt.py:sft" in found.made_by
    for name, options in c.evaluators.items():
        stored = load_items(found.folder, c.total_steps, name)
        assert len(stored["accuracy" if options.type != "masks" else "pq"]) >= options.n


def test_the_readme_prints_the_stored_scores():
    lines = [line for line in (REPOSITORY / "README.md").read_text().splitlines() if "[" in line and ", % (n = " in line]
    c = config_file.load("nano_sgt")
    folder = epath.Path(resource(c.compare))
    shown = {line.split(", % (n = ")[0]: re.search(r"(\d+\.\d) +[−+]\d+\.\d \[[^\[]*\]$", line)[1] for line in lines}
    means = {
        options.get("called") or label: f"{100 * np.mean(load_items(folder, c.total_steps, name)[key]):.1f}"
        for name, options in c.evaluators.items()
        for key, label in LABELS.get(options.type, (("accuracy", ""),))
    }
    assert shown == means
