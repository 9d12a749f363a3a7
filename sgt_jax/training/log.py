"""What a run says while it runs: a live bar or plain lines, `metrics.jsonl`, TensorBoard events, pictures.

Everything lands in the work directory and survives a kill: every line is flushed when it is written. A run
that resumes from a checkpoint drops what was logged after that checkpoint, so that no step appears twice.
Only the primary process writes.

`metrics.jsonl` holds one JSON object a line: `step`, `kind` ("train", "eval", ...), `seconds` since the run
began (resumed runs continue the count) and the values; a value that is not finite is `null`. Names that the
lines on the terminal know: `loss ce mse grad_norm lr tokens_per_second fill/LANE data_wait` (the last two are
fractions of one).
"""

import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import rich.console
import rich.live
import rich.progress
import rich.text
import tensorboardX
from etils import epath

from sgt_jax.reporting import grids
from sgt_jax.reporting.metrics import METRICS, read_metrics

PICTURES = "pictures"
EVENTS = "tensorboard"
_OWN = ("step", "kind", "seconds")  # the log's own fields; values of these names are not recorded
# An object store cannot append, so there files are written locally and copied over this often (seconds).
COPY_EVERY = 30.0


class RunLog:
    """The log of one run. Use it as a context manager, or call `close`.

    Arguments:
      workdir: where to write; local or anything `etils.epath` can write to.
      total_steps: the last step, for the bar and the remaining time.
      is_primary: False on all processes but one: nothing is written or printed then.
      stream: where lines go; a bar is drawn if it is a terminal. None means standard output.
      first_step: step of the checkpoint this run continues from, and lines after it are dropped; 0 is a new run.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        total_steps: int,
        is_primary: bool = True,
        stream: TextIO | None = None,
        *,
        first_step: int = 0,
    ):
        self.total_steps = total_steps
        self.is_primary = is_primary
        self._console = rich.console.Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._bar = None
        self._seen: dict[str, tuple[int, set[str]]] = {}
        self._first: tuple[int, float] | None = None
        self._closed = False
        if not is_primary:
            return
        self._workdir = epath.Path(workdir)
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._remote = _is_remote(self._workdir)
        self._local = epath.Path(tempfile.mkdtemp(prefix="sgt_jax_log_") if self._remote else self._workdir)
        (self._local / PICTURES).mkdir(exist_ok=True)
        self._copied: dict[str, int] = {}
        self._last_copy = time.monotonic()
        kept = _keep_until(self._workdir, first_step)
        # Written beside and renamed: a kill right here must not cost the log of the whole run.
        fresh = self._local / (METRICS + ".tmp")
        fresh.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(fresh, self._local / METRICS)
        for line in kept:
            self._note(line["kind"], line["step"], line)
        self._began = time.monotonic() - max((line["seconds"] for line in kept), default=0.0)
        self._metrics = open(self._local / METRICS, "a", encoding="utf-8")
        # TensorBoard hides what earlier event files say from the purge step on.
        self._events = tensorboardX.SummaryWriter(
            os.fspath(self._local / EVENTS),
            purge_step=first_step + 1 if first_step else 0,
            filename_suffix=f".from{first_step}",
        )
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bar = _Bar(self._console, total_steps, first_step)

    def scalars(self, step: int, values: Mapping[str, Any], kind: str = "train") -> None:
        """Records numbers of a step and says the main ones; values are what `float` takes, or arrays."""
        if not self.is_primary:
            return
        seen_step, seen = self._seen.get(kind, (-1, set()))
        # A resumed run may evaluate the restored step once more; what was written first stays.
        fresh = {k: float(v) for k, v in values.items() if not (step == seen_step and k in seen)}
        fresh = {k: v for k, v in fresh.items() if k not in _OWN}
        self._note(kind, step, fresh)
        seconds = time.monotonic() - self._began
        if fresh:
            clean = {k: v if math.isfinite(v) else None for k, v in fresh.items()}
            line = {"step": int(step), "kind": kind, "seconds": round(seconds, 3), **clean}
            self._metrics.write(json.dumps(line, allow_nan=False) + "\n")
            self._metrics.flush()
            for name, value in clean.items():
                if value is not None:
                    self._events.add_scalar(f"{kind}/{name}", value, step)
        if kind == "train":
            self._say_step(step, {k: float(v) for k, v in values.items()})
        else:
            numbers = "  ".join(f"{k} {_short(float(v))}" for k, v in values.items())
            self.message(f"{kind} at step {step}:  {numbers}")
        self._copy()

    def pictures(
        self,
        step: int,
        name: str,
        rows: Sequence[Sequence[np.ndarray | None]],
        columns: Sequence[str] = (),
        captions: Sequence[str] = (),
    ) -> epath.Path | None:
        """Writes a grid (see `sgt_jax.reporting.grids.grid`) as PNG and to TensorBoard; returns the PNG's path."""
        if not self.is_primary:
            return None
        picture = grids.grid(rows, columns, captions)
        file = f"step_{step:07d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', name)}.png"
        grids.write_png(self._local / PICTURES / file, picture)
        self._events.add_image(name, picture, step, dataformats="HWC")
        self._events.flush()
        self._copy()
        return self._workdir / PICTURES / file

    def message(self, text: str, *, everywhere: bool = False) -> None:
        """Prints a line, above the bar if there is one; with `everywhere` not only on the primary process."""
        if self.is_primary or everywhere:
            self._console.print(text, markup=False)

    def close(self) -> None:
        """Flushes and closes everything. Calling it twice is fine."""
        if self._closed or not self.is_primary:
            return
        self._closed = True
        if self._bar:
            self._bar.stop()
        self._metrics.close()
        self._events.close()
        self._copy(now=True)
        if self._remote:
            shutil.rmtree(self._local, ignore_errors=True)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _note(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        seen_step, seen = self._seen.get(kind, (-1, set()))
        self._seen[kind] = (step, (seen if step == seen_step else set()) | set(values))

    def _say_step(self, step: int, values: Mapping[str, float]) -> None:
        numbers = _numbers(values)
        if self._bar:
            self._bar.update(step, numbers)
            return
        now = time.monotonic()
        # The first line marks the start of the clock: what came before it was mostly compilation.
        if self._first is None:
            self._first = (step, now)
        steps, seconds = step - self._first[0], now - self._first[1]
        eta = _clock((self.total_steps - step) * seconds / steps) if steps > 0 else "--"
        width = len(str(self.total_steps))
        self.message(f"step {step:{width}d}/{self.total_steps}  {numbers}  ETA {eta}")

    def _copy(self, now: bool = False) -> None:
        """Copies changed files to a remote work directory, at most every `COPY_EVERY` seconds."""
        if not self._remote or not (now or time.monotonic() - self._last_copy > COPY_EVERY):
            return
        self._last_copy = time.monotonic()
        for folder, _, files in os.walk(self._local):
            for file in files:
                source = epath.Path(folder) / file
                name = os.path.relpath(source, self._local)
                size = source.stat().length
                if self._copied.get(name) != size:
                    target = self._workdir / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(source.read_bytes())
                    self._copied[name] = size


def _is_remote(path: epath.Path) -> bool:
    return "://" in os.fspath(path)


def _keep_until(workdir: epath.Path, step: int) -> list[dict[str, Any]]:
    return [line for line in read_metrics(workdir) if line["step"] <= step] if step else []


class _Bar:
    """A progress bar with the latest numbers below it, wrapped on narrow terminals."""

    def __init__(self, console: rich.console.Console, total: int, done: int):
        column = rich.progress
        self._progress = column.Progress(
            column.TextColumn("step"),
            column.MofNCompleteColumn(),
            column.BarColumn(bar_width=24),
            column.TaskProgressColumn(),
            column.TimeElapsedColumn(),
            column.TextColumn("ETA"),
            column.TimeRemainingColumn(),
            console=console,
            speed_estimate_period=300.0,
        )
        self._task = self._progress.add_task("train", total=total, completed=done)
        self._live = rich.live.Live(self._progress, console=console, refresh_per_second=4)
        self._live.start()

    def update(self, step: int, numbers: str) -> None:
        self._progress.update(self._task, completed=step)
        self._live.update(rich.console.Group(self._progress, rich.text.Text(numbers)))

    def stop(self) -> None:
        self._live.stop()


def _numbers(values: Mapping[str, float]) -> str:
    """The main numbers of a training step on one line."""
    parts = [f"{name} {_short(values[key])}" for name, key in _NAMES if key in values]
    fills = [f"{k.removeprefix('fill/')} {100 * v:.0f}%" for k, v in values.items() if k.startswith("fill/")]
    if fills:
        parts.append("fill " + " ".join(fills))
    if "data_wait" in values:
        parts.append(f"wait {100 * values['data_wait']:.1f}%")
    return "  ".join(parts)


_NAMES = (
    ("loss", "loss"),
    ("ce", "ce"),
    ("mse", "mse"),
    ("grad", "grad_norm"),
    ("lr", "lr"),
    ("tok/s", "tokens_per_second"),
)


def _short(value: float) -> str:
    """Four significant digits, as people write them: 12,345 or 0.4551 or 1.0e-05."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.4g}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
