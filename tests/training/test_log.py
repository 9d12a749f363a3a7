"""The run log: lines, files, resuming, pictures."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from sgt_jax.parallel import progress
from sgt_jax.reporting.metrics import read_metrics
from sgt_jax.training import log as log_module
from sgt_jax.training.log import RunLog

STEP = {
    "loss": 3.25,
    "ce": 2.5,
    "mse": 0.75,
    "grad_norm": 1.5,
    "lr": 1e-5,
    "tokens_per_second": 12345.0,
    "fill/und": 0.91,
    "fill/gen": 0.5,
    "data_wait": 0.003,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_hold_the_numbers(tmp_path):
    stream = io.StringIO()
    with RunLog(tmp_path, 40, stream=stream) as log:
        log.scalars(10, STEP)
        log.scalars(20, STEP)
        log.message("saved [red]checkpoint[/red]")
    first, second, last = stream.getvalue().splitlines()
    assert first.startswith("step 10/40") and "ETA --" in first
    assert "loss 3.25  ce 2.5  mse 0.75  grad 1.5  lr 1.0e-05  tok/s 12,345  fill und 91%" in second
    assert "gen 50%  wait 0.3%" in second
    assert "ETA 0:00" in second
    assert last == "saved [red]checkpoint[/red]"


def test_terminal_shows_a_bar(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with RunLog(tmp_path, 40, stream=stream) as log:
        log.scalars(10, STEP)
        log.message("hello")
    text = stream.getvalue()
    assert "10/40" in text and "━" in text and "loss 3.25" in text and "hello" in text


def test_the_bar_names_its_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with RunLog(tmp_path, 400, stream=stream) as log:
        for stage in (("scoring answers", 400, 2000), ("compiling the step", 0, 0), ("step", 0, 0), ("saving", 0, 0)):
            progress.begin(stage[0], stage[2])
            progress.add(stage[1])
            if stage[0] == "step":
                log.scalars(20, STEP)
            log._terminal._bar._live.refresh()
    text = stream.getvalue()
    for said in ("scoring answers 400/2000", "compiling the step", "step 20/400", "saving"):
        assert said in text, said


def test_without_a_terminal_a_compilation_and_what_takes_long_are_lines(tmp_path, monkeypatch):
    stream = io.StringIO()
    with RunLog(tmp_path, 40, stream=stream) as log:
        progress.begin("compiling the step")
        progress.begin("scoring answers", 2000)
        log._terminal._said -= 11
        progress.add(400)
        progress.add(100)
        log._terminal._said -= 11
        progress.begin("step")
    assert stream.getvalue().splitlines() == ["compiling the step", "scoring answers 400/2000"]


def test_metrics_are_on_disk_at_once_and_strict_json(tmp_path):
    log = RunLog(tmp_path, 40, stream=io.StringIO())
    log.scalars(1, {"loss": np.float32("nan"), "ce": np.float32(0.5)})
    text = (tmp_path / "metrics.jsonl").read_text()  # before close: a kill must not lose it
    line = json.loads(text, parse_constant=lambda x: pytest.fail(f"{x} is not JSON"))
    assert line["loss"] is None and line["ce"] == 0.5 and line["step"] == 1 and line["kind"] == "train"
    log.close()
    log.close()


def test_resume_drops_what_came_after_the_checkpoint(tmp_path):
    with RunLog(tmp_path, 40, stream=io.StringIO()) as log:
        for step in range(1, 8):
            log.scalars(step, {"loss": step})
        log.scalars(5, {"answers": 0.5}, kind="eval")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "kin')  # killed in the middle of a line
    with RunLog(tmp_path, 40, stream=io.StringIO(), first_step=5) as log:
        log.scalars(5, {"answers": 0.9}, kind="eval")  # evaluated once more: the first one stays
        log.scalars(6, {"loss": 60})
    lines = read_metrics(tmp_path)
    assert [x["step"] for x in lines if x["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["loss"] == 60
    assert [x["answers"] for x in lines if x["kind"] == "eval"] == [0.5]
    assert all(a["seconds"] <= b["seconds"] for a, b in zip(lines, lines[1:]))


def test_new_run_starts_an_empty_log(tmp_path):
    with RunLog(tmp_path, 40, stream=io.StringIO()) as log:
        log.scalars(3, {"loss": 1})
    with RunLog(tmp_path, 40, stream=io.StringIO()) as log:
        log.scalars(1, {"loss": 2})
    assert [x["step"] for x in read_metrics(tmp_path)] == [1]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1\n{"step": 2, "kind": "train"}\n')
    with pytest.raises(ValueError, match="line 1"):
        read_metrics(tmp_path)


def test_other_processes_write_nothing(tmp_path):
    stream = io.StringIO()
    with RunLog(tmp_path / "w", 40, is_primary=False, stream=stream) as log:
        log.scalars(1, STEP)
        log.message("quiet")
        assert log.pictures(1, "x", [[np.zeros((2, 2, 3), np.uint8)]]) is None
        log.message("skipped scenes/3", everywhere=True)
    assert not (tmp_path / "w").exists()
    assert stream.getvalue() == "skipped scenes/3\n"


def test_pictures_and_events(tmp_path):
    red = np.zeros((32, 32, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    wide = np.zeros((20, 300, 3), np.uint8)
    with RunLog(tmp_path, 40, stream=io.StringIO()) as log:
        rows = [[red, wide, None], [red]]
        path = log.pictures(10, "masks of/scenes", rows, ["condition", "target"], ["a prompt", ""])
        log.scalars(10, {"loss": 1.0})
    assert path.name == "step_0000010_masks_of_scenes.png"
    sheet = np.asarray(Image.open(path))
    assert sheet.shape[1] > 3 * 128
    assert (sheet == [255, 0, 0]).all(-1).sum() == 2 * 128 * 128  # enlarged by whole pixels, not smoothed
    events = b"".join(p.read_bytes() for p in (tmp_path / "tensorboard").iterdir())
    assert b"train/loss" in events and b"PNG" in events


def test_remote_workdir_receives_copies(tmp_path, monkeypatch):
    """An object store cannot append: files are written elsewhere and copied whole. A folder stands in for gs://."""
    monkeypatch.setattr(log_module, "is_remote", lambda path: True)
    monkeypatch.setattr(log_module, "COPY_EVERY", 0.0)
    with RunLog(tmp_path / "w", 40, stream=io.StringIO()) as log:
        log.scalars(1, STEP)
        assert [x["step"] for x in read_metrics(tmp_path / "w")] == [1]  # a kill loses little
        log.scalars(2, STEP)
        path = log.pictures(2, "grid", [[np.zeros((2, 2, 3), np.uint8)]])
        scratch = log._folder.local
    assert path.exists() and not scratch.exists()
    with RunLog(tmp_path / "w", 40, stream=io.StringIO(), first_step=1) as log:
        log.scalars(2, {"loss": 9.0})
    assert [x["loss"] for x in read_metrics(tmp_path / "w")] == [3.25, 9.0]
    assert len(list((tmp_path / "w" / "tensorboard").iterdir())) == 2
