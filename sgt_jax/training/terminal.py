"""What a run says on the terminal: a live bar with the latest numbers, or plain lines where there is no terminal."""

import math
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import rich.console
import rich.live
import rich.progress
import rich.text

from sgt_jax.parallel.progress import EVERY, Stage

# How lines name the numbers of a training step, and the names in metrics.jsonl.
_NAMES = (
    ("loss", "loss"),
    ("ce", "ce"),
    ("mse", "mse"),
    ("grad", "grad_norm"),
    ("lr", "lr"),
    ("tok/s", "tokens_per_second"),
)
COMPILING = "compiling the step"  # may take minutes
STEP = "step"  # the stage of training steps, which have lines of their own


class Terminal:
    """Prints lines, and the steps of a run as a bar (after `show_bar`, on a terminal) or as lines.

    Arguments:
      total_steps: the last step, for the bar and the remaining time.
      stream: where lines go; None means standard output.
    """

    def __init__(self, total_steps: int, stream: TextIO | None = None) -> None:
        self._total_steps = total_steps
        self._console = rich.console.Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._bar: _Bar | None = None
        self._first: tuple[int, float] | None = None  # step and time of the first line
        self._said = time.monotonic()  # when the last line was printed

    def show_bar(self, first_step: int) -> None:
        """Shows a bar from now on, which begins at a step; does nothing where the stream is no terminal."""
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bar = _Bar(self._console, self._total_steps, first_step)

    def line(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        self._console.print(text, markup=False)
        self._said = time.monotonic()

    def stage(self, stage: Stage) -> None:
        """Says what is being done: in the bar, or as a line if there was none for a while."""
        if self._bar:
            self._bar.stage(str(stage))
        elif stage.name == COMPILING or (0 < stage.done < stage.total and time.monotonic() - self._said >= EVERY):
            self.line(str(stage))

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Says the main numbers of a training step."""
        numbers = _main_numbers(values)
        if self._bar:
            self._bar.update(step, numbers)
            return
        now = time.monotonic()
        # The first line marks the start of the clock: what came before it was mostly compilation.
        if self._first is None:
            self._first = (step, now)
        steps, seconds = step - self._first[0], now - self._first[1]
        eta = _clock((self._total_steps - step) * seconds / steps) if steps > 0 else "--"
        width = len(str(self._total_steps))
        self.line(f"step {step:{width}d}/{self._total_steps}  {numbers}  ETA {eta}")

    def scores(self, step: int, values: Mapping[str, float], kind: str) -> None:
        """Says the numbers of anything but a training step, an evaluation for example."""
        numbers = "  ".join(f"{name} {_short(value)}" for name, value in values.items())
        self.line(f"{kind} at step {step}:  {numbers}")

    def close(self) -> None:
        """Ends the bar."""
        if self._bar:
            self._bar.stop()


class _Bar:
    """A progress bar with the latest numbers below it, wrapped on narrow terminals."""

    def __init__(self, console: rich.console.Console, total: int, done: int) -> None:
        column = rich.progress
        self._progress = column.Progress(
            column.TextColumn("{task.description}"),
            column.BarColumn(bar_width=24),
            column.TaskProgressColumn(),
            column.TimeElapsedColumn(),
            column.TextColumn("ETA"),
            column.TimeRemainingColumn(),
            console=console,
            speed_estimate_period=300.0,
        )
        self._total, self._done = total, done
        self._task = self._progress.add_task("loading", total=total, completed=done)
        self._live = rich.live.Live(self._progress, console=console, refresh_per_second=4)
        self._live.start()

    def stage(self, words: str) -> None:
        if words == STEP:
            words = f"{STEP} {self._done}/{self._total}"
        self._progress.update(self._task, description=words)

    def update(self, step: int, numbers: str) -> None:
        self._done = step
        self._progress.update(self._task, completed=step, description=f"{STEP} {step}/{self._total}")
        self._live.update(rich.console.Group(self._progress, rich.text.Text(numbers)))

    def stop(self) -> None:
        self._live.stop()


def _main_numbers(values: Mapping[str, float]) -> str:
    """The main numbers of a training step on one line."""
    parts = [f"{name} {_short(values[key])}" for name, key in _NAMES if key in values]
    fills = [f"{k.removeprefix('fill/')} {100 * v:.0f}%" for k, v in values.items() if k.startswith("fill/")]
    if fills:
        parts.append("fill " + " ".join(fills))
    if "data_wait" in values:
        parts.append(f"wait {100 * values['data_wait']:.1f}%")
    return "  ".join(parts)


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
