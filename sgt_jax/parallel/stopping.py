"""SIGTERM and SIGINT ask a run to save and leave; a second one lets it leave at once.

Python runs signal handlers only between two of its own instructions, and a compilation may take minutes without one. So
a thread of its own is woken by every signal: it can end the process while the main thread compiles.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interrupted(BaseException):
    """A signal came while work that may be left unfinished was under way."""


class StopRequest:
    """Whether somebody asked this run to stop. Use it as a context manager: inside, it listens.

    With several processes JAX's preemption service listens to SIGTERM, on each of them, and agrees on the next step that
    all can reach; SIGINT is passed on to it. Alone, the step under way is the one.

    Attributes:
      anything_to_lose: set by the loop when the first step was taken. Before it, a signal ends the process at once.
      status: exit status of a process that leaves so.
    """

    status = 0

    def __init__(self) -> None:
        self._asked, self._leaving, self._interruptible = 0, False, False
        self.anything_to_lose = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            return self  # nobody can be asked there
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        alone = jax.process_count() == 1
        for number in (signal.SIGINT, signal.SIGTERM) if alone else (signal.SIGINT,):
            self._old[number] = signal.signal(number, self._in_main)
        threading.Thread(target=self._watch, args=(self._read, alone), name="signals", daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        if not self._old:
            return
        for number, old in self._old.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)
        self._old = {}
        signal.set_wakeup_fd(self._old_fd)
        os.close(self._write)  # ends the thread, which closes its own end

    def at(self, step: int) -> bool:
        """Whether to stop after this step; every process must ask at every step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked > 0

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Inside, the first signal raises Interrupted, where a run is alone; work that can be done again later."""
        if self._asked and jax.process_count() == 1:
            raise Interrupted
        self._interruptible = jax.process_count() == 1
        try:
            yield
        finally:
            self._interruptible = False

    def _in_main(self, number: int, _: Any) -> None:
        # The thread counts, but may be late: here the main thread learns of it before it ends the step under way, and
        # leaves work that may be left.
        self._asked = max(self._asked, 1)
        if self._interruptible:
            self._interruptible = False
            raise Interrupted

    def _watch(self, pipe: int, alone: bool) -> None:
        heard = 0
        with open(pipe, "rb", buffering=0) as signals:
            while numbers := signals.read(1):
                number = numbers[0]
                if number not in (signal.SIGINT, signal.SIGTERM):
                    continue
                heard += 1
                self._asked = heard
                if heard > 1:
                    _leave(
                        "stopped at once by a second signal; the same command resumes from the last save", 128 + number
                    )
                elif not alone:
                    os.kill(os.getpid(), signal.SIGTERM)
                elif not self.anything_to_lose:
                    _leave("stopped by signal before the first step; the same command starts again", self.status)
                else:
                    print(
                        "signal heard: saving, then leaving (a second one leaves at once)", file=sys.stderr, flush=True
                    )


def _leave(words: str, status: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(words, flush=True)
    os._exit(status)
