"""What is asked of the engine, and a request on its way: who listens, when it must be done, whether anybody still waits."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from sgt_jax.models.family import Settings

History = Sequence[str | np.ndarray]
MODES = ("chat", "t2i", "edit", "segment")


class Canceled(Exception):
    """Whoever asked has left."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One picture or answer that somebody wants.

    Attributes:
      history: texts and pictures (uint8 [H, W, 3]) in the order in which they are read.
      mode: "chat", "t2i" or "edit", as in `Assistant`; "segment" paints but decodes nothing.
      seed: of this result alone.
      shape: (height, width) of a painting; None as in `Assistant.paint`.
      settings: None for the mode's defaults.
      max_new_tokens: of a text, cut to the room that the model has.
      temperature: of a text; 0 is greedy.
      ignore_end: write on after the mark that ends a text, for measurements.
      think: of a text, let the model reason before it answers; of a painting, it has planned it in `thought`.
      thought: of a painting, ids of the text that the model wrote before.
      plans: of a text (mode "chat"), it plans a picture that is drawn after texts alone.
    """

    history: History
    mode: str
    seed: int = 0
    shape: tuple[int, int] | None = None
    settings: Settings | None = None
    max_new_tokens: int = 500
    temperature: float = 0.0
    ignore_end: bool = False
    think: bool = False
    thought: tuple[int, ...] = ()
    plans: bool = False


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a request.

    Attributes:
      ids: of a text, without the marks around it.
      picture: uint8 [H, W, 3], of a painting.
      read: tokens of the prompt, those of pictures included.
      ended: whether the model ended the text itself; else it ran out of room.
    """

    ids: tuple[int, ...] = ()
    picture: np.ndarray | None = None
    read: int = 0
    ended: bool = True


class Job:
    """A request that was accepted. Its methods may be called from any thread; `tell`, `finish`, `fail` by the engine alone.

    Attributes:
      number: counts up.
      prepared: what the engine made of the request.
      future: of the Result.
    """

    def __init__(
        self, number: int, request: Request, prepared: Any, listen: Callable[[str, Any], None] | None,
        deadline: float | None,
    ) -> None:  # fmt: skip
        self.number, self.request, self.prepared, self.future = number, request, prepared, Future()
        self._listen, self._deadline, self._canceled = listen, deadline, False

    def result(self, timeout: float | None = None) -> Result:
        """Waits for the result. Raises what `fail` was given, such as Canceled or TimeoutError."""
        return self.future.result(timeout)

    def cancel(self) -> None:
        """Nobody waits for it any more; the engine drops it before its next step."""
        self._canceled = True

    def dropped(self) -> bool:
        """Whether it was cancelled or is too late; then it has ended, and the engine must let go of it."""
        if not self.future.done():
            if self._canceled:
                self.fail(Canceled("cancelled"))
            elif self._deadline is not None and time.monotonic() > self._deadline:
                self.fail(TimeoutError("the request took longer than it may"))
        return self.future.done()

    def tell(self, kind: str, value: Any) -> None:
        """Lets the listener know of progress."""
        if self._listen is not None:
            self._listen(kind, value)

    def finish(self, result: Result) -> None:
        """Ends it well."""
        if not self.future.done():
            self.future.set_result(result)
            self.tell("end", None)

    def fail(self, error: BaseException) -> None:
        """Ends it with an exception."""
        if not self.future.done():
            self.future.set_exception(error)
            self.tell("end", None)
