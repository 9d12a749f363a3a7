"""Every `sh` block of the pages below does what it says: its commands are run, cut short by one table, in this process.

Blocks marked `hardware` need accelerators, a network or data of others: tests/test_docs.py parses them. What `ELSEWHERE`
lists is run by something else, which stands beside each.
"""

import os
import re
import shlex
from pathlib import Path

import pytest

from sgt_jax import __main__ as door
from sgt_jax import main as training
from sgt_jax.training import checks, config_file
from tests.support import command_lines, local_road, own_photos
from tests.support.paths import REPOSITORY

PAGES = ("README.md", "docs/own_data.md", "docs/seven_b.md")
FEW = [f"--config.data.sources.{name}.num=64" for name in ("asked", "painted", "drawn", "edited")]
CUT = [
    "--config.total_steps=2", "--config.log_every=1", "--config.checkpoint.every=2", *FEW,
    "--config.evaluators.masks.n=2", "--config.evaluators.masks.batch=2", "--config.evaluators.masks.train_n=4",
]  # fmt: skip
KEPT = ("masks",)  # evaluators; .ci/run has the others
# A command's beginning -> what is added to it.
OVERRIDES = {
    "python -m sgt_jax train --config=mine.py": CUT,
    "python -m sgt_jax inspect-data --config=mine.py": ["--samples=4", "--batches=1", "--pictures=1"],
    "python -m sgt_jax sample": ["--steps=1"],
    "python -m sgt_jax tokenize --config=bagel_7b_sgt:local": ["--batch=2", "--threads=2"],
    "python -m sgt_jax ingest": ["--workers=0"],
}
# A command's beginning -> who runs it.
ELSEWHERE = {
    "pip install": ".ci/run installs in a fresh environment",
    "pytest": ".ci/run",
    "python -m sgt_jax.main --config=configs/nano_sgt.py": ".ci/run, with every evaluator",
    "sgt train --config=nano_sgt": "tests/training/test_other_proxies.py, with every proxy",
    "python -m sgt_jax serve": "tests/inference/page, with the extra [serve]",
    "python -m sgt_jax plan --estimate": "tests/commands/test_plan.py traces the 7B step",
    "python -m tests.support.local_road": "the fixture below",
}


def commands(page: str) -> list[tuple[str, ...]]:
    """The commands of a page's blocks that are to be run."""
    found = []
    for _, language, mark, content in command_lines.marked_blocks((REPOSITORY / page).read_text()):
        if language == "sh" and mark != "hardware":
            found += command_lines.split(content)
    return found


def run(words: tuple[str, ...]) -> None:
    """Runs one command where the process stands, unless something else does."""
    line = shlex.join(words)
    if any(line.startswith(begin) for begin in ELSEWHERE):
        return
    if words[0] == "cd":
        os.chdir(words[1])
        return
    words = [*words, *(more for begin, added in OVERRIDES.items() if line.startswith(begin) for more in added)]
    if words[:1] == ["sgt"]:
        words = ["python", "-m", "sgt_jax", *words[1:]]
    assert words[:2] == ["python", "-m"], line
    module, *rest = words[2:]
    if module == "sgt_jax.main" or rest[:1] == ["train"]:
        given = config_file.split(rest[1:] if module == "sgt_jax" else rest)
        (workdir,) = re.findall(r"--workdir=(\S+)", " ".join(given.rest))
        given.config.evaluators = {name: given.config.evaluators[name] for name in given.config.evaluators if name in KEPT}
        checks.before_anything(given.config)
        checks.check_places(given.config)
        assert training.run(given.config, workdir) == 0
        assert Path(workdir, "report.html").exists()
    else:
        assert module == "sgt_jax" and door.main(rest) == 0, line


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the pages say that their reader has; /tmp of the pages is below it."""
    root = tmp_path_factory.mktemp("reader")
    own_photos.make(root / "my_photos")
    (code,) = [
        code for _, language, code in command_lines.blocks((REPOSITORY / "docs/own_data.md").read_text())
        if language == "python"
    ]  # fmt: skip
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (root / "mine.py").write_text(code)
    (root / "road").mkdir()
    local_road.make(root / "road")
    return root


@pytest.mark.slow  # trains two tiny runs, paints three pictures, tokenises
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page, place, monkeypatch):
    monkeypatch.chdir(place if page == "docs/own_data.md" else REPOSITORY)
    before = {path.name for path in Path.cwd().iterdir()}
    for words in commands(page):
        # The run of the README's first command is .ci/run's; here the model that it starts from stands in for it.
        words = tuple(word.replace("/tmp/nano_sgt", "package:nano").replace("/tmp/", f"{place}/") for word in words)
        # Pictures that a page shows stay as they are.
        run(tuple(f"{place}/{word}" if word.endswith(".png") and after == "--out" and page == "README.md" else word
                  for after, word in zip(("", *words), words)))  # fmt: skip
    if page == "docs/own_data.md":
        assert (place / "inspect-data/pictures.png").exists() and (place / "parts.json").exists()
    elif page == "README.md":
        assert {path.name for path in REPOSITORY.iterdir()} == before
    else:
        assert (place / "road/checkpoints/SGT-local/ema.safetensors").exists()


def test_every_override_and_exception_is_used():
    lines = [shlex.join(words) for page in PAGES for words in commands(page)]
    for begin in (*OVERRIDES, *ELSEWHERE):
        assert any(line.startswith(begin) for line in lines), f"no page shows {begin} any more"
