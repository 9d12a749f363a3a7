"""What a run records while it runs: `metrics.jsonl`, TensorBoard events, pictures, and what it says on the terminal.

SGT_WANDB=PROJECT in the environment also sends it to Weights & Biases (`wandb_log`).

Everything lands in the work directory and survives a kill: every line is flushed when it is written. A run
that resumes from a checkpoint drops what was logged after that checkpoint, so that no step appears twice.
Only the primary process writes.

`metrics.jsonl` holds one JSON object a line: `step`, `kind` ("train", "eval", ...), `seconds` since the run
began (resumed runs continue the count) and the values; a value that is not finite is `null`. Names that the
lines on the terminal know: `loss ce mse grad_norm lr tokens_per_second fill/LANE data_wait` (the last two are
fractions of one).
"""

import contextlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import tensorboardX
from etils import epath

from sgt_jax.data.stored import atomic
from sgt_jax.data.stored.atomic import is_remote
from sgt_jax.parallel import progress
from sgt_jax.reporting import grids
from sgt_jax.reporting.metrics import METRICS, read_metrics
from sgt_jax.training import wandb_log
from sgt_jax.training.terminal import Terminal

PICTURES = "pictures"
EVENTS = "tensorboard"
_LINE_FIELDS = ("step", "kind", "seconds")  # of every line; values of these names are not recorded
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
        self.is_primary = is_primary
        self._terminal = Terminal(total_steps, stream)
        self._closed = False
        if not is_primary:
            return
        self._workdir = epath.Path(workdir)
        self._folder = _Folder(self._workdir)
        lines = read_metrics(self._workdir) if first_step else []
        self._metrics = _MetricsFile(self._folder.local / METRICS, [x for x in lines if x["step"] <= first_step])
        # TensorBoard hides what earlier event files say from the purge step on.
        self._events = tensorboardX.SummaryWriter(
            os.fspath(self._folder.local / EVENTS),
            purge_step=first_step + 1 if first_step else 0,
            filename_suffix=f".from{first_step}",
        )
        self._wandb = wandb_log.of_environment(self._workdir, self._folder.local)
        self._terminal.show_bar(first_step)
        self._heard = contextlib.ExitStack()
        self._heard.enter_context(progress.listening(self._terminal.stage))

    def scalars(self, step: int, values: Mapping[str, Any], kind: str = "train") -> None:
        """Records numbers of a step and says the main ones; values are what `float` takes, or arrays."""
        if not self.is_primary:
            return
        numbers = {name: float(value) for name, value in values.items()}
        for name, value in self._metrics.write(step, kind, numbers).items():
            if math.isfinite(value):
                self._events.add_scalar(f"{kind}/{name}", value, step)
        if self._wandb is not None:
            self._wandb.scalars(step, kind, numbers)
        if kind == "train":
            self._terminal.step(step, numbers)
        else:
            self._terminal.scores(step, numbers, kind)
        self._folder.copy()

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
        grids.write_png(self._folder.local / PICTURES / file, picture)
        self._events.add_image(name, picture, step, dataformats="HWC")
        self._events.flush()
        if self._wandb is not None:
            self._wandb.picture(step, name, picture)
        self._folder.copy()
        return self._workdir / PICTURES / file

    def message(self, text: str, *, everywhere: bool = False) -> None:
        """Prints a line, above the bar if there is one; with `everywhere` not only on the primary process."""
        if self.is_primary or everywhere:
            self._terminal.line(text)

    def close(self) -> None:
        """Flushes and closes everything. Calling it twice is fine."""
        if self._closed or not self.is_primary:
            return
        self._closed = True
        self._heard.close()
        self._terminal.close()
        self._metrics.close()
        self._events.close()
        if self._wandb is not None:
            self._wandb.close()
        self._folder.close()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _MetricsFile:
    """`metrics.jsonl`, which begins with the lines that a resumed run keeps.

    Arguments:
      path: a local file.
      kept: its lines so far; all others are dropped.
    """

    def __init__(self, path: epath.Path, kept: Sequence[Mapping[str, Any]]) -> None:
        atomic.write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")
        self._began = time.monotonic() - max((line["seconds"] for line in kept), default=0.0)
        self._written: dict[str, tuple[int, set[str]]] = {}  # kind -> its last step, and names of the values there
        for line in kept:
            self._note(line["step"], line["kind"], line)

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> dict[str, float]:
        """Writes a line and flushes it; returns the values that are new.

        A resumed run may evaluate the restored step once more: what was written first stays.
        """
        last, names = self._written.get(kind, (-1, set()))
        known = names if step == last else set()
        new = {name: value for name, value in values.items() if name not in known and name not in _LINE_FIELDS}
        self._note(step, kind, new)
        if new:
            seconds = round(time.monotonic() - self._began, 3)
            finite = {name: value if math.isfinite(value) else None for name, value in new.items()}
            line = {"step": int(step), "kind": kind, "seconds": seconds, **finite}
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        return new

    def close(self) -> None:
        self._file.close()

    def _note(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        last, names = self._written.get(kind, (-1, set()))
        self._written[kind] = (step, (names if step == last else set()) | set(values))


class _Folder:
    """Where the files of a log are written: the work directory, or a local folder that is copied to a remote one.

    Attributes:
      local: a folder where files can be appended to.
    """

    def __init__(self, workdir: epath.Path) -> None:
        workdir.mkdir(parents=True, exist_ok=True)
        self._workdir = workdir
        self._remote = is_remote(workdir)
        self.local = epath.Path(tempfile.mkdtemp(prefix="sgt_jax_log_")) if self._remote else workdir
        (self.local / PICTURES).mkdir(exist_ok=True)
        self._copied: dict[str, int] = {}  # file -> its size when it was copied
        self._last_copy = time.monotonic()

    def copy(self, now: bool = False) -> None:
        """Copies changed files to a remote work directory, at most every `COPY_EVERY` seconds."""
        if not self._remote or not (now or time.monotonic() - self._last_copy > COPY_EVERY):
            return
        self._last_copy = time.monotonic()
        for folder, _, files in os.walk(self.local):
            for file in files:
                source = epath.Path(folder) / file
                name = os.path.relpath(source, self.local)
                size = source.stat().length
                if self._copied.get(name) != size:
                    target = self._workdir / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(source.read_bytes())
                    self._copied[name] = size

    def close(self) -> None:
        """Copies what is left, and removes the local folder of a remote one."""
        self.copy(now=True)
        if self._remote:
            shutil.rmtree(self.local, ignore_errors=True)
