"""What people mistype, and that each mistake is one line with what they meant, before anything is loaded or computed."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import time

import pytest

from sgt_jax.__main__ import main
from sgt_jax.errors import UserError, beside, hint, nearest
from sgt_jax.training import checks, config_file
from tests.support.paths import REPOSITORY

NANO = "--checkpoint package:nano"
SCENE = "docs/figures/sample/scene.png"
# What somebody types -> what the one line must hold.
COMMANDS = [
    ("sample --checkpoitn package:nano t2i 'a red circle'", "did you mean '--checkpoint'?"),
    ("sample t2i 'a red circle'", "required: --checkpoint"),
    (f"sample {NANO} t2l 'a red circle'", "did you mean 't2i'?"),
    ("sample --checkpoint pakcage:nano t2i 'a red circle'", "did you mean 'package:nano'?"),
    ("sample --checkpoint package:nanno t2i 'a red circle'", "did you mean 'package:nano'?"),
    ("sample --checkpoint docs/figrues chat 'a red circle'", "did you mean 'docs/figures'?"),
    (f"sample {NANO} chat --image docs/figures/sample/scnee.png 'how many ?'", f"did you mean '{SCENE}'?"),
    (f"sample {NANO} segment --image {SCENE} --palette distnict", "did you mean 'distinct'?"),
    (f"sample {NANO} t2i 'a red circle' --size 64", "such as 1024x768"),
    (f"sample {NANO} t2i 'a red circle' --out dosc/x.png", "did you mean 'docs'?"),
    (f"sample {NANO} t2i 'a red circle' --out x.svg", "end it with .png"),
    (f"sample {NANO} t2i ' '", "a text is empty"),
    (f"sample {NANO} t2i 'xyzzy quux'", "knows no word of 'xyzzy quux'; it knows "),
    (f"sample {NANO} t2i 'crcle'", "did you mean 'circle'?"),
    (f"sample {NANO} t2i '{'a red circle ' * 200}'", "the model reads 512 at most; shorten it"),
    (f"sample {NANO} t2i 'a red circle' --num 0", "--num must be at least 1"),
    (f"sample {NANO} t2i 'a red circle' --weights emma", "did you mean 'ema'?"),
    (f"sample {NANO} t2i 'a red circle' --renorm gloabl", "did you mean 'global'?"),
    (f"sample {NANO} edit 'make it blue'", "edit wants --image FILE and a text"),
    (f"sample {NANO} t2i 'a red circle' --adapter docs/resluts", "did you mean 'docs/results'?"),
    (f"probe {NANO} --sourse type=scenes", "did you mean '--source'?"),
    (f"probe {NANO} --source type=secnes", "did you mean 'scenes'?"),
    (f"probe {NANO} --n 0", "must be at least 1"),
    (f"align {NANO} --proxies segmentatoin", "did you mean 'segmentation'?"),
    (f"align {NANO} --palette distnict", "did you mean 'distinct'?"),
    (f"align {NANO} --style plian", "did you mean 'plain'?"),
    (f"attention {NANO} understnding", "did you mean 'understanding'?"),
    ("embed --checkpoint docs/resluts", "did you mean 'docs/results'?"),
    (f"evaluate mmpv {NANO}", "did you mean 'mmvp'?"),
    (f"evaluate mmvp {NANO} --data dosc", "dosc/mmvp: no such folder; did you mean 'docs'?"),
    (f"evaluate {NANO}", "name a benchmark or a suite"),
    ("plan --config bagel_7b_stg --topology v5p:2x2x4", "did you mean 'bagel_7b_sgt'?"),
    ("plan --config bagel_7b_sgt --topology v5q:2x2x4", "did you mean 'v5p'?"),
    ("plan --config bagel_7b_sgt --topology v5p:2x2", "is not like v5p:2x2x4"),
    ("plan --config bagel_7b_sgt --topology v5p:2x2x4 model.remaat=full", "did you mean 'remat'?"),
    ("plan --config bagel_7b_sgt:v5p_2x24 --topology v5p:2x2x4", "did you mean 'v5p_2x2x4'?"),
    ("plan --config study/ratio --topology v5p:2x2x4", "is a study"),
    ("inspect-data --config=study/ratio", "train its arms with sgt study"),
    ("validate --config=nano_sgt --souce held_out", "did you mean '--source'?"),
    ("inspect-data --config=nano_sgt --config.data.mixture.proxy.proxy=egdes", "did you mean 'edges'?"),
    ("tokenize --config=nano_sgt --shrae 0/1", "did you mean '--share'?"),
    ("ingest type=fodler root=docs out", "did you mean 'folder'?"),
    ("ingest type=folder rot=docs out", "did you mean 'root'? It has root,"),
    ("ingest type=folder out", "needs root=..."),
    ("ingest type=folder root=docs/figrues out", "did you mean 'docs/figures'?"),
    ("convert docs/result out", "did you mean 'docs/results'?"),
    ("report docs/resluts", "did you mean 'docs/results'?"),
    ("mechanism docs/results/mechansim", "did you mean 'docs/results/mechanism'?"),
    ("parity tests/goldne/bagel", "did you mean 'tests/golden'?"),
    ("parity tests/golden/bagel trian", "did you mean 'train'?"),
    ("mask-loss --vae docs/figrues", "did you mean 'docs/figures'?"),
    ("bench --size nanno", "did you mean 'nano'?"),
    ("doctor --verbsoe", "doctor --help lists them"),
    ("launch tpu upp name --project=p --zone=z", "did you mean 'up'?"),
    ("launch tpu up name --porject=p --zone=z", "did you mean '--project'?"),
    ("launch local -n many", "invalid int value: 'many'"),
    ("launch slurm submit name --nodes=2 -- --config=nano", "no --workdir"),
]
# Overrides of nano_sgt -> what the one line must hold.
OVERRIDES = [
    ("data.mixture.proxy.proxy=segmentatoin", "did you mean 'segmentation'?"),
    ("data.mixture.proxy.source=paintde", "did you mean 'painted'?"),
    ("data.mixture.proxy.task=porxy", "did you mean 'proxy'?"),
    ("data.sources.painted.type=secnes", "did you mean 'scenes'?"),
    ("evaluators.masks.type=mask", "did you mean 'masks'?"),
    ("evaluators.masks.source=held_uot", "did you mean 'held_out'?"),
    ("evaluators.masks.palette=distnict", "did you mean 'distinct'?"),
    ("sampling.palette=tab2", "did you mean 'tab20'?"),
    ("evaluate_weights=emma", "choose 'ema' or 'params'"),
    ("total_steps=-1", "must be a whole number from 0 on"),
    ("optimizer.learning_rate=nan", "must be a finite number"),
    ("ema_decay=1.5", "from 0 to below 1"),
]
PROCESSES = [
    "trian --config=nano_sgt",
    "train --config=nano_sgd --workdir=x",
    "train --config=nano_sgt --workdir=x --config.data.mixture.proxy.proxy=segmentatoin",
    "train --config=nano_sgt --workdri=x",
    "sample --checkpoint pakcage:nano t2i 'a red circle'",
    f"align {NANO} --proxies segmentatoin",
    "study --config=study/ratio --workdir=x --only=ratio_1_O",
    "launch slrum",
]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def told(line: str) -> tuple[int, str, str]:
    """Status, output and errors of `sgt LINE` in this process."""
    words = shlex.split(line)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(words)
        except SystemExit as left:
            if isinstance(left.code, str):
                print(left.code, file=err)
            status = 1 if isinstance(left.code, str) else left.code or 0
    return status, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(("line", "said"), COMMANDS, ids=[line for line, _ in COMMANDS])
def test_a_mistake_is_one_line_with_what_was_meant(line, said, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["sgt"])
    if "--out" not in line and line.split()[0] in ("probe", "align", "attention", "embed"):
        line += f" --out {tmp_path}"
    status, out, err = told(line)
    assert status in (1, 2) and not out
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err, err


@pytest.mark.parametrize(("override", "said"), OVERRIDES, ids=[override for override, _ in OVERRIDES])
def test_a_wrong_value_in_a_config_is_found_before_anything_is_built(override, said):
    with pytest.raises(UserError, match=re.escape(said)):
        checks.before_anything(config_file.load("nano_sgt", [override]))


def test_sixty_mistakes_are_tried():
    assert len(COMMANDS) + len(OVERRIDES) >= 60 and len(PROCESSES) == 8


def test_every_config_that_ships_passes_the_first_checks():
    for name in config_file.shipped():
        config = config_file.load(name)
        checks.before_anything(config.base if "base" in config else config)


def test_hints_name_what_is_near_and_list_what_is_few(tmp_path):
    assert hint("egdes", ["edges", "depth"]) == "did you mean 'edges'? There are edges, depth"
    assert hint("quux", ["edges", "depth"]) == "there are edges, depth"
    assert hint("name7", [f"name{i}" for i in range(40)]) == "did you mean 'name7'?"
    (tmp_path / "photos").mkdir()
    assert beside(tmp_path / "potos" / "cup.jpg") == f"; did you mean '{tmp_path / 'photos'}'?"
    assert beside(tmp_path / "quux") == "" and nearest("quux", []) == ""


@pytest.mark.slow  # eight processes
def test_mistakes_in_real_processes_are_one_line_within_ten_seconds(tmp_path):
    for line in PROCESSES:
        start = time.monotonic()
        command = [sys.executable, "-m", "sgt_jax", *shlex.split(line)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        cpu = time.monotonic() - start
        assert done.returncode in (1, 2) and not done.stdout, (line, done.stdout)
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, (line, done.stderr)
        assert "did you mean" in done.stderr.lower(), (line, done.stderr)
        assert cpu < 10 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), (line, cpu)
        assert not any(tmp_path.iterdir())
