"""Every command that the documents and docstrings show would start: it exists, its options do, its config loads."""

import json
import re
from typing import Any

import numpy as np
import pytest

from sgt_jax.data import sources
from sgt_jax.data.proxies import PROXIES, make_pair
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.data.text import templates
from sgt_jax.evaluation.evaluators.answers import Answers
from sgt_jax.study.arms import Run, fingerprint, run_config
from sgt_jax.training import experiment
from tests.support import command_lines
from tests.support.command_lines import Command, CommandError
from tests.support.oracle_subject import OracleSubject
from tests.support.paths import REPOSITORY

OWN_PROXY = REPOSITORY / "docs" / "your_own_proxy.md"
PAGES = sorted({*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")})
MODULES = sorted(path for folder in ("sgt_jax", "configs", "launch") for path in (REPOSITORY / folder).rglob("*.py"))
COMMANDS = [
    *(command for page in PAGES for command in command_lines.in_page(page)),
    *(command for module in MODULES for command in command_lines.in_docstring(module)),
]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    """Pages name files as one sees them from the root of the repository."""
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_shown_command_would_start(command: Command):
    command_lines.check(command.words)


def test_pages_configs_and_launchers_show_commands():
    """The search finds what is there: no page loses its commands to a fence without a language."""
    files = {command.file for command in COMMANDS}
    assert {"README.md", "CONTRIBUTING.md", "docs/data.md", "docs/launch.md", "docs/studies.md"} <= files
    shown = [path for path in (REPOSITORY / "configs").rglob("*.py") if "Command" in path.read_text()]
    assert len(shown) > 8 and {str(path.relative_to(REPOSITORY)) for path in shown} <= files
    assert {f"launch/{name}.py" for name in ("gke", "local", "slurm", "tpu")} <= files


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_with_arguments_stand_in_sh_blocks(page):
    assert command_lines.outside_blocks(page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_and_files_that_a_page_names_exist(page):
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:sgt_jax|configs|tests|launch|docs)/[\w/]+\.(?:py|md|json|safetensors))`", text)
    # NAME stands for a name of the reader's own.
    wanted = [name for name in named if name not in command_lines.WRITTEN_BY_THE_READER and "NAME" not in name]
    assert [name for name in wanted if not (REPOSITORY / name).exists()] == []


def examples() -> list[str]:
    """The files that docs/your_own_proxy.md shows: a proxy and a skill, each short."""
    found = [code for _, language, code in command_lines.blocks(OWN_PROXY.read_text()) if language == "python"]
    assert all(len(code.splitlines()) < 60 for code in found)
    return found


def test_the_example_of_a_skill_works(monkeypatch):
    """docs/your_own_proxy.md as it is written: the study stands, and its questions are asked in training and in scoring."""
    monkeypatch.setattr(sources, "SOURCES", dict(sources.SOURCES))
    names: dict[str, Any] = {}
    exec(compile(examples()[1], OWN_PROXY.name, "exec"), names)
    study = names["get_config"]()
    config = run_config(study, Run("sgt", 0))
    config.data.rows = 2
    batches = iter(experiment.build(config).batches([0, 1]))
    assert any("understanding" in next(batches)[1].samples for _ in range(20))
    subject = OracleSubject({"held_out": sources.open_source(config.data.sources.held_out.to_dict())})
    options = config.evaluators.answers.to_dict() | dict(n=40, train_source="held_out", train_n=20)
    items = Answers(subject, options)(None).items
    assert set(items["answer"]) == {"left", "right", "no"} and set(items["kind"]) == {"halves"}
    assert np.mean(items["accuracy"]) == 1


def test_the_example_of_a_proxy_works():
    """docs/your_own_proxy.md as it is written: its arm stands in the study, and its target is what it says."""
    code, _ = examples()
    names: dict[str, Any] = {}
    try:
        exec(compile(code, OWN_PROXY.name, "exec"), names)
        config = names["get_config"]()
        scene = Scenes()[0]
        pair = make_pair("silhouette", scene, np.random.default_rng(0), style="plain")
    finally:
        PROXIES.pop("silhouette", None)
        templates.PLAIN.pop("silhouette", None)
    assert config.name == "silhouette" and {"silhouette", "sft", "base"} <= set(config.arms)
    np.testing.assert_array_equal(pair.target[..., 0] == 255, scene.masks.any(0))
    assert pair.instruction == "paint the objects"
    # --reuse finds the other arms: their settings are those of the results that are shipped.
    for run in (Run("sft", 0), Run("edges", 4)):
        record = json.loads((REPOSITORY / f"docs/results/proxies/runs/{run.name}.json").read_text())
        assert record["fingerprint"] == fingerprint(run_config(config, run))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("python -m sgt_jax smaple --checkpoint package:nano", "no command 'smaple'"),
        ("python -m sgt_jax probe --checkpoint DIR --afore DIR", "no option --afore; did you mean '--before'?"),
        ("python -m sgt_jax mask-loss --pictures many", "invalid int value: 'many'"),
        ("python -m sgt_jax.main --config=configs/nano.py", "needs --workdir"),
        ("python -m sgt_jax.main --config=configs/nano.py --workdr=/tmp/x", "no flag --workdr=/tmp/x"),
        ("python -m sgt_jax.main --config=configs/naan.py --workdir=/tmp/x", "naan"),
        ("python -m sgt_jax.main --config=configs/nano.py --workdir=/tmp/x --config.total_step=3", "total_step"),
        (
            "python -m sgt_jax.launch.local -n 4 -- --config=configs/nano.py --config.mesh.date=2 --workdir=/tmp/x",
            "date",
        ),
        ("python -m sgt_jax.launch.locale -n 4", "no module sgt_jax.launch.locale"),
        ("python -m sgt_jax validate --config=configs/nano.py --config.data.sed=3", "sed"),
        ("python -m sgt_jax plan --config configs/bagel_7b_sgt.py --topology v5p:2x2x4 model.remaat=full", "remaat"),
        ("pytest tests/test_absent.py", "no tests at tests/test_absent.py"),
        ('pytest -m "slow or quick"', "no marker quick"),
        ("pip install '.[tests]'", "no extra [tests]"),
        ("pthon -m sgt_jax", "'pthon' is no program"),
        ("hf download a/b --local-dri x", "hf download has no option --local-dri"),
    ],
)
def test_a_broken_command_is_found(line, reason):
    (words,) = command_lines.split(line)
    with pytest.raises(CommandError, match=re.escape(reason)):
        command_lines.check(words)


def test_commands_are_cut_from_shell_text():
    text = "cd docs && pytest -n 2 # comment\npython -m sgt_jax probe \\\n    --pair 'a|b' c  # one, two\n\n"
    commands = [("cd", "docs"), ("pytest", "-n", "2"), ("python", "-m", "sgt_jax", "probe", "--pair", "a|b", "c")]
    assert command_lines.split(text) == commands


@pytest.mark.parametrize(
    "text",
    ["so `python -m sgt_jax probe --n 3` does", "```\n$ python -m sgt_jax probe\n```\n", "then\n\n    pytest -n 2\n"],
)
def test_a_command_outside_of_sh_blocks_is_found(text):
    assert len(command_lines.outside_blocks(text)) == 1
    assert command_lines.outside_blocks("see `python -m sgt_jax probe`, and `python -m sgt_jax.main`") == []
