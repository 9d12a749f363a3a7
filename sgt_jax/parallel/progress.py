"""How far a process is: whoever works says it here, and what shows it listens. Imports no JAX, which takes a second or two.

Work is a series of stages, "loading" or "scoring answers", some of which count what they do. `begin` names a stage, `count`
says how many things it has, `add` that some of them are done. Nothing happens unless somebody listens: a run's terminal
(`sgt_jax.training.terminal`), or `shown`, which commands use.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TextIO, TypeVar

Item = TypeVar("Item")
EVERY = 10.0  # seconds between lines where there is no terminal


class Stage(NamedTuple):
    """What is being done: its name, and how many of how many things are done (0 of 0: it does not count)."""

    name: str
    done: int = 0
    total: int = 0

    def __str__(self) -> str:
        return f"{self.name} {self.done}/{self.total}" if self.total else self.name


Listener = Callable[[Stage], None]
_listeners: list[Listener] = []
_now = Stage("")


def begin(name: str, total: int = 0) -> None:
    """A new stage begins, of `total` things if it counts them."""
    _tell(Stage(name, 0, total))


def count(total: int) -> None:
    """The stage has so many things to do, none of which is done yet."""
    _tell(Stage(_now.name, 0, total))


def add(done: int = 1) -> None:
    """So many more things of the stage are done."""
    _tell(_now._replace(done=_now.done + done))


def counted(name: str, items: Iterable[Item], total: int) -> Iterator[Item]:
    """The items of a stage of its own, counted as they are taken."""
    for number, item in enumerate(items):
        _tell(Stage(name, number, total))
        yield item


def _tell(stage: Stage) -> None:
    global _now
    _now = stage
    if _listeners:
        _listeners[-1](stage)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, `listener` hears of every stage; whoever listened before hears nothing."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextlib.contextmanager
def shown(first: str, stream: TextIO | None = None) -> Iterator[None]:
    """Inside, stages stand on stderr (or a stream): one moving line on a terminal, else lines.

    Args:
      first: the stage that begins now.
    """
    stream = stream or sys.stderr
    make = _moving if stream.isatty() else _lines
    with make(stream) as show, listening(show):
        begin(first)
        yield


@contextlib.contextmanager
def _moving(stream: TextIO) -> Iterator[Listener]:
    """One line with the time elapsed, which leaves nothing behind."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    # What a command prints must go above the line where both are the same terminal, and to its file where it has one.
    both = sys.stdout.isatty()
    with Progress(*columns, console=Console(file=stream, highlight=False), transient=True, redirect_stdout=both) as bar:
        task = bar.add_task("", total=None)
        yield lambda stage: bar.update(task, description=str(stage))


@contextlib.contextmanager
def _lines(stream: TextIO) -> Iterator[Listener]:
    """Every new stage at once, and how far it is now and then."""
    last: list[Any] = [0.0, Stage("")]  # when the last line was written, and of which stage

    def write(stage: Stage) -> None:
        new, between = stage.name != last[1].name, 0 < stage.done < stage.total
        if new or (between and time.monotonic() - last[0] >= EVERY):
            last[:] = time.monotonic(), stage
            print(stage.name if new else stage, file=stream, flush=True)

    yield write
