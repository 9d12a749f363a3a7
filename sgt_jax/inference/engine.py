"""One loop that owns the device and serves many requests at once: texts in slots, pictures in groups, a step at a time.

    engine = Engine(assistant)
    engine.start()
    job = engine.submit(Request(["What is left of the cup?", photo], "chat", seed=3))
    print(job.result().text)

A text slot that ends is given to the next request without waiting for the others (`writing.py`); pictures of one size and
settings are painted as one batch (`canvas.py`). A step of each takes turns, so that a picture of fifty steps does not hold up
an answer. What is drawn for a request depends on its own seed. Knows nothing of HTTP.
"""

import dataclasses
import itertools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from sgt_jax.errors import UserError
from sgt_jax.inference.assistant import Assistant
from sgt_jax.inference.canvas import Canvas
from sgt_jax.inference.jobs import Job, Request, Result
from sgt_jax.inference.offered import Offered
from sgt_jax.inference.programs import Programs
from sgt_jax.inference.writing import Writing
from sgt_jax.parallel import progress


class Full(UserError):
    """The queue holds as many requests as it may."""


class Stopped(UserError):
    """The engine is not running: it has stopped, or is about to."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much is done at once.

    Attributes:
      slots: texts that are written at a time.
      prefill: requests that are read at a time.
      pictures: that are painted at a time.
      context: tokens and pictures' tokens that a text may have read and written; 0 for what the model has, at most 8192.
      chunk: tokens written between two looks at the queue.
      waiting: requests that may wait; more are refused.
      sizes: (height, width) of pictures that are compiled for at the start; no others are painted then. () paints any, and
        compiles when it is asked to.
      deterministic: batches are always padded to their full size, so that a result does not depend on the load by one bit.
    """

    slots: int = 8
    prefill: int = 4
    pictures: int = 4
    context: int = 0
    chunk: int = 4
    waiting: int = 64
    sizes: tuple[tuple[int, int], ...] = ()
    deterministic: bool = False


class Engine:
    """Serves requests with one assistant; `start` gives it a thread, or `run` works off a list in the caller's.

    Attributes:
      programs: what was compiled.
      ready: set when everything that is usual has been compiled.
      failure: the exception that ended the loop, or None.
    """

    def __init__(
        self, assistant: Assistant, limits: Limits = Limits(), mesh: jax.sharding.Mesh | None = None,  # noqa: B008
        programs: Programs | None = None,
    ) -> None:  # fmt: skip
        """With a mesh, the assistant's parameters must lie on it, as `load` puts them.

        `programs` are those of an engine of the same config and mesh, such as that of the base of an adapter.

        Raises DataError: a size in `limits` that the model does not paint.
        """
        self.assistant, self.limits = assistant, limits
        # A program that calls back into this process cannot be kept.
        self.programs = programs or Programs(mesh, "" if assistant.notify else self.kind_of(assistant))
        self.ready = threading.Event()
        self.failure: BaseException | None = None
        self.offered = Offered(assistant, limits.sizes) if limits.sizes else None
        self._writing = Writing(assistant, self.programs, limits, self.offered)
        self._canvas = Canvas(assistant, self.programs, limits, self.offered)
        self._inbox: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._open = threading.Semaphore(limits.waiting + limits.slots + limits.pictures)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._numbers = itertools.count(1)

    @staticmethod
    def kind_of(assistant: Assistant) -> str:
        """What all programs of a model depend on beside shapes: two models of one kind may share them."""
        family, stops = assistant.family, assistant.sampler(()).steps.stops()
        return f"{family.name} {family.with_tokens(assistant.config, assistant.tokenizer)!r} {stops}"

    # -- From any thread -----------------------------------------------------------------------------------------------

    def submit(
        self, request: Request, listen: Callable[[str, Any], None] | None = None, timeout: float | None = None
    ) -> Job:
        """Queues a request; pictures are resized in the caller's thread.

        Args:
          request: what is wanted.
          listen: called in the engine's thread with ("tokens", ids), ("step", (done, steps)), and last ("end", None).
          timeout: seconds after which it ends with a TimeoutError.

        Raises:
          Full, Stopped: it was not queued.
          DataError: the request cannot be served: too long, empty, or of a size that the model does not paint.
        """
        if self._stopping.is_set() or self.failure is not None:
            raise Stopped("the engine has stopped")
        lane = self._writing if request.mode == "chat" else self._canvas
        prepared = lane.prepare(request)
        if not self._open.acquire(blocking=False):
            raise Full(f"{self.limits.waiting} requests are waiting already; try again later")
        deadline = None if timeout is None else time.monotonic() + timeout
        job = Job(next(self._numbers), request, prepared, listen, deadline)
        job.future.add_done_callback(lambda _: self._open.release())
        self._inbox.put(job)
        return job

    def load(self) -> dict[str, int]:
        """How many requests are waiting and in work, by kind."""
        return {
            "queue": self._inbox.qsize(), "texts_waiting": len(self._writing.waiting), "texts": self._writing.busy,
            "pictures_waiting": len(self._canvas.waiting), "pictures": self._canvas.busy,
        }  # fmt: skip

    def start(self, warm: bool = True) -> None:
        """Begins to serve on a thread of its own, after compiling what is usual."""
        self._thread = threading.Thread(target=self._serve, args=(warm,), name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Accepts nothing more, finishes what was accepted, and returns when that is done."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self.programs.close()

    # -- The loop ------------------------------------------------------------------------------------------------------

    def run(self, requests: Sequence[Request]) -> list[Result]:
        """Serves a list of requests in the caller's thread, without `start`, and returns their results in order.

        Raises:
          DataError: of the first request that cannot be served.
        """
        prepared = [(self._writing if one.mode == "chat" else self._canvas).prepare(one) for one in requests]
        jobs = [Job(next(self._numbers), one, ready, None, None) for one, ready in zip(requests, prepared, strict=True)]
        for job in jobs:
            self._accept(job)
        counted = 0
        while self._turn():
            progress.add(sum(job.future.done() for job in jobs) - counted)
            counted = sum(job.future.done() for job in jobs)
        return [job.result() for job in jobs]

    def warm_up(self) -> None:
        """Compiles every text's programs, and those of all pictures that are offered."""
        self._writing.warm_up()
        self._canvas.warm_up()

    def _serve(self, warm: bool) -> None:
        try:
            if warm:
                self.warm_up()
            self.ready.set()
            while not (self._stopping.is_set() and self._inbox.empty() and self._idle()):
                self._take(wait=self._idle())
                self._turn()
        except BaseException as error:  # a fault of ours: nobody may wait for ever
            self.failure = error
            self._give_up(error)
            raise

    def _take(self, wait: bool) -> None:
        try:
            self._accept(self._inbox.get(timeout=0.05 if wait else 0))
            while True:
                self._accept(self._inbox.get_nowait())
        except queue.Empty:
            pass

    def _accept(self, job: Job) -> None:
        (self._writing if job.request.mode == "chat" else self._canvas).waiting.append(job)

    def _idle(self) -> bool:
        return not (self._writing.pending or self._canvas.pending)

    def _turn(self) -> bool:
        """One chunk of texts and one step of pictures; False when there was nothing to do."""
        found = not self._idle()
        self._writing.turn()
        self._canvas.turn()
        return found

    def _give_up(self, error: BaseException) -> None:
        left = [*self._writing.everything(), *self._canvas.everything()]
        while not self._inbox.empty():
            left.append(self._inbox.get())
        for job in left:
            job.fail(error)

