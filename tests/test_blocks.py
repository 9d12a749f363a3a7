"""Every `sh` block of the README and docs/ does what it says: its commands are run, cut short by one table, in this process.

Blocks marked `hardware` need accelerators, a network, data of others or root: tests/test_docs.py parses them. Where the table
names a file instead, that runs the command at short size. The notebook's cells are run, too, with a run of two steps.
"""

import importlib.util
import os
import re
import runpy
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from sgt_jax import __main__ as door
from sgt_jax import main as training
from sgt_jax.study import forecast
from sgt_jax.training import checks, config_file
from tests.support import command_lines, local_road, notebook, own_photos
from tests.support.paths import REPOSITORY

FILES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
PAGES = [path.relative_to(REPOSITORY).as_posix() for path in FILES if "```sh" in path.read_text()]
SHORT = [
    "--config.total_steps=2",
    "--config.log_every=1",
    "--config.checkpoint.every=2",
    "--config.optimizer.name=adamw",
]
FEW_SCENES = [f"--config.data.sources.{name}.num=64" for name in ("asked", "drawn", "edited")]
CUT = [*SHORT, *FEW_SCENES, *(f"--config.evaluators.masks.{size}" for size in ("n=2", "batch=2", "train_n=4"))]
SCORED = [  # with every evaluator of the first bed, each of few items; .ci/run has those of configs/nano_sgt.py
    f"--config.evaluators.{name}.{size}"
    for name in ("answers", "pope", "prompts", "edits", "masks")
    for size in ("n=2", "batch=2", *(["train_n=4"] if name in ("answers", "pope", "masks") else []))
]
CI, PAGE = ".ci/run", "tests/inference/page/test_server.py"  # with the extra [serve], in .ci/run
BY_HAND = "docs/performance.md"  # minutes of measuring: nobody runs these but by hand
ANALYSES = "tests/commands/test_analysis_commands.py"
# The longest beginning of a command that is listed -> what is added to it, or the file that runs it.
TABLE: dict[str, list[str] | str] = {
    "pip install": CI,
    "pytest": CI,
    ".ci/site": CI,
    "mkdocs": CI,
    "python -m sgt_jax.main --config=configs/nano_sgt.py": CI,  # with every evaluator
    # Scored once, answers alone: the tiny experiments of the suite train its parts.
    "python -m sgt_jax.main --config=configs/nano_omnigen2.py": [
        "--config.total_steps=0", *(f"--config.evaluators.answers.{size}" for size in ("n=2", "batch=2", "train_n=4")),
        *(f"--config.data.sources.{name}.num=64" for name in ("train", "lessons")),
    ],
    # Scored once; training is nano_sgt's with other sources.
    "python -m sgt_jax.main --config=configs/study/first_bed.py": ["--config.total_steps=0", *FEW_SCENES, *SCORED],
    "python -m sgt_jax parity": CI,
    "sgt train --config=nano_sgt": "tests/training/test_other_proxies.py",  # every proxy
    "python -m sgt_jax train --config=mine.py": CUT,
    # Forty seconds of compiling; the first file runs it without a step, the second asks for what it refuses.
    "python -m sgt_jax.main --config=configs/nano_vae.py": "tests/reporting/test_run_results.py",
    "python -m sgt_jax export-vae": "tests/commands/test_export_vae.py",
    # Without a step: compiling it takes longer than all the rest, and own_data.md's run has some; that is what is converted.
    "python -m sgt_jax.main --config=configs/nano_pretrain.py": ["--config.total_steps=0", *FEW_SCENES],
    "python -m sgt_jax.launch.local": "tests/launch/test_launch.py",
    "python -m sgt_jax plan": "tests/commands/test_plan.py",
    "python -m sgt_jax.study --config=configs/study/silhouette.py": "tests/test_docs.py",
    "python -m sgt_jax.study --config=configs/study/halves.py": "tests/test_docs.py",
    "python -m sgt_jax.study --config=configs/study/gates.py --results": "tests/study/test_gates.py",
    "python -m sgt_jax.study --config=configs/study/headline.py --results": "tests/study/test_gates.py",
    "python -m sgt_jax.study --config=configs/study/dots_proxies.py --results": "tests/study/test_results.py",
    "python -m sgt_jax.study --config=configs/study/jigsaw.py --results": "tests/study/test_results.py",
    "python -m tests.support.local_road": "tests/test_blocks.py",  # the fixture below
    # Serving.
    "python -m sgt_jax serve": PAGE,
    "curl": PAGE,
    "python -m sgt_jax bench-serve": "tests/inference/page/test_campaigns.py",
    "python -m tests.support.serve_fuzz": "tests/inference/page/test_campaigns.py",
    # Data.
    # own_data.md and seven_b.md run these three with small data.
    "python -m sgt_jax validate --config=configs/bagel_7b_sgt.py": "tests/test_blocks.py",
    "python -m sgt_jax inspect-data --config=configs/bagel_7b_sgt.py": "tests/test_blocks.py",
    "python -m sgt_jax tokenize --config=configs/bagel_7b_sgt.py": "tests/test_blocks.py",
    "python -m sgt_jax inspect-data": ["--samples=4", "--batches=1", "--pictures=1"],
    "python -m sgt_jax tokenize": ["--batch=2", "--threads=2"],
    "python -m sgt_jax ingest": "tests/data/sources/test_sources_ingested.py",
    "python -m sgt_jax ingest type=sam_sgt root=data/SAM-SGT index": ["--workers=0"],
    "python -m sgt_jax ingest type=llava_onevision root": ["--workers=0"],
    # Models.
    "python -m sgt_jax sample": ["--steps=1"],
    "python -m sgt_jax probe": ANALYSES,
    "python -m sgt_jax embed": ANALYSES,
    "python -m sgt_jax attention": ANALYSES,
    "python -m sgt_jax align": ANALYSES,
    # Bootstraps over all seeds: another file rebuilds these pages, and one small one is rebuilt here by the command.
    "python -m sgt_jax report docs/results": "tests/study/test_results.py",
    "python -m sgt_jax report docs/results/adapters": [],
    "python -m sgt_jax mechanism": "tests/analysis/mechanism/test_mechanism.py",
    "python -m sgt_jax mechanism docs/results/mechanism": [],
    "python -m sgt_jax evaluate": "tests/evaluation/benchmarks/test_command.py",
    "python -m sgt_jax proxies": "tests/commands/test_proxies_command.py",
    "python -m sgt_jax mask-loss": "tests/evaluation/rules/test_mask_survival.py",
    # Times and campaigns.
    "python -m sgt_jax.timing.attention": "tests/timing/test_attention.py",
    "python -m sgt_jax.timing.versus": "tests/timing/test_versus.py",
    "git worktree add": BY_HAND,
    "python -m sgt_jax bench": "tests/commands/test_bench.py",
    "python -m sgt_jax bench-sampling": ["--tokens=2", "--steps=1", "--repeats=1"],
    "python -m sgt_jax.timing.data_throughput": ["--photos=4", "--rounds=1"],
    "python -m sgt_jax.timing.vocabulary": ["--repeats=1"],
    "python -m tests.support.answering_speed": BY_HAND,
    "python -m tests.support.omnigen2_sampling_speed": BY_HAND,
    "python -m tests.support.notebook": "tests/test_blocks.py",  # below
    "python -m tests.support.int8_loss": "tests/study/test_int8_loss.py",
    "python -m tests.support.mutations": "tests/data/test_mutations.py",
    "python -m tests.support.kills": "tests/training/test_ends.py",
}  # fmt: skip


def commands(page: str) -> list[tuple[str, ...]]:
    """The commands of a page's blocks that are to be run."""
    found = []
    for _, language, mark, content in command_lines.marked_blocks((REPOSITORY / page).read_text()):
        if language == "sh" and mark != "hardware":
            found += command_lines.split(content)
    return found


def entry(words: tuple[str, ...]) -> str:
    """The entry of the table that a command goes by; "" if it is run as it is."""
    line = shlex.join(words)
    return max((begin for begin in TABLE if line.startswith(begin)), key=len, default="")


def run(words: list[str]) -> None:
    """Runs one command where the process stands."""
    if words[0] == "cd":
        os.chdir(words[1])
        return
    if words[:1] == ["sgt"]:
        words = ["python", "-m", "sgt_jax", *words[1:]]
    assert words[:2] == ["python", "-m"], words
    module, *rest = words[2:]
    if module == "sgt_jax" and rest[0] != "train":
        assert door.main(rest) == 0, words
    elif module in ("sgt_jax", "sgt_jax.main"):
        train(rest[1:] if module == "sgt_jax" else rest)
    elif module == "sgt_jax.study":
        # An arm takes minutes: tests/study/test_run.py runs one, here the study is read and counted.
        print(forecast.text(config_file.split(rest).config))
    else:
        sys.argv = [module, *rest]
        try:
            # By its file: pytest's loader of modules has no code to run.
            runpy.run_path(importlib.util.find_spec(module).origin, run_name="__main__")
        except SystemExit as end:
            assert not end.code, words


def train(rest: list[str]) -> None:
    """`python -m sgt_jax.main` with those evaluators alone that the table makes small: the report is there afterwards."""
    given = config_file.split(rest)
    (workdir,) = re.findall(r"--workdir=(\S+)", " ".join(given.rest))
    small = set(re.findall(r"--config\.evaluators\.(\w+)\.n=", " ".join(rest)))
    given.config.evaluators = {name: given.config.evaluators[name] for name in given.config.evaluators if name in small}
    checks.before_anything(given.config)
    checks.check_places(given.config)
    assert training.run(given.config, workdir) == 0
    assert Path(workdir, "report.html").exists() == given.config.report


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the pages say that their reader has; /tmp of the pages is below it."""
    root = tmp_path_factory.mktemp("reader")
    for name in ("docs", "configs", "tests"):
        (root / name).symlink_to(REPOSITORY / name)
    own_photos.make(root / "my_photos")
    (code,) = [
        code for _, language, code in command_lines.blocks((REPOSITORY / "docs/own_data.md").read_text())
        if language == "python"
    ]  # fmt: skip
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (root / "mine.py").write_text(code)
    (root / "prompts.txt").write_text("a red circle\na blue square\n")
    (root / "road").mkdir()
    local_road.make(root / "road")
    return root


@pytest.fixture(scope="module")
def tuned(place):
    """The run that own_data.md makes, which stands in for the other pages' runs."""
    before = os.getcwd()
    os.chdir(place)
    train(["--config=mine.py", "--workdir=runs/mine", *CUT])
    os.chdir(before)
    return place / "runs/mine"


@pytest.mark.slow  # trains two tiny runs, paints pictures, tokenises: half of it is compiling
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page, place, request, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", sys.argv)
    mine = f"{place}/runs/mine"
    stand_ins = {"/tmp/nano_sgt": mine, "/tmp/": f"{place}/"}
    before = {path.name for path in REPOSITORY.iterdir()}
    for words in commands(page):
        added = TABLE.get(entry(words), [])
        if isinstance(added, str):
            continue
        words = [mine if word == "/tmp/nano_pretrain" else word for word in (*words, *added)]  # to be converted
        for theirs, ours in stand_ins.items():
            words = [word if str(place) in word else word.replace(theirs, ours) for word in words]
        if mine in words:
            request.getfixturevalue("tuned")
        run(words)
    if page == "docs/own_data.md":
        assert (place / "inspect-data/pictures.png").exists() and (place / "parts.json").exists()
    elif page == "docs/seven_b.md":
        assert (place / "road/checkpoints/SGT-local/ema.safetensors").exists()
    assert {path.name for path in REPOSITORY.iterdir()} == before


def test_every_entry_of_the_table_is_used_and_its_files_are_there():
    used = Counter(entry(words) for page in PAGES for words in commands(page))
    assert [begin for begin in TABLE if not used[begin]] == []
    assert all((REPOSITORY / where).exists() for where in TABLE.values() if isinstance(where, str))


@pytest.mark.slow  # trains two steps, paints with three assistants
def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path):
    path, steps = REPOSITORY / "docs/first_hour.ipynb", []

    def cut(code: str) -> str:
        steps.extend(re.findall(r"^STEPS = (\d+)$", code, re.MULTILINE))
        return re.sub(r"^STEPS = \d+$", "STEPS = 2", code, flags=re.MULTILINE)

    outputs = notebook.run(path, cut)
    notebook.write(shutil.copy(path, tmp_path / "run.ipynb"), outputs)
    kinds = Counter(kind for cell in outputs for output in cell for kind in output.get("data", {"text": 0}))
    assert len(steps) == 1 and kinds["image/png"] == 5 and kinds["text/plain"] >= 2
    text = "".join(line for cell in outputs for output in cell for line in output.get("text", ()))
    assert "paint each object" in text and "step 2/2" in text


def test_the_notebook_holds_the_outputs_of_a_whole_run_and_is_small():
    path = REPOSITORY / "docs/first_hour.ipynb"
    content = path.read_text()
    assert path.stat().st_size < 300_000 and '"image/png"' in content and "Traceback" not in content
    assert "/work/" not in content and "/home/" not in content
