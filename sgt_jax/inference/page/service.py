"""The engines behind a server by the names of their models, and the bridge from their threads to asyncio."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.inference.engine import Engine, Full, Stopped
from sgt_jax.inference.jobs import Canceled, Job, Request, Result
from sgt_jax.inference.page.reading import BadRequest

Gone = Callable[[], Awaitable[bool]]  # whether the client has left


@dataclasses.dataclass
class Service:
    """What all routes share.

    Attributes:
      engines: by the name of the model; the first is the main one, a second is compared with it.
      weights: by the name of the model, what was loaded.
      key: that clients must send, or "" for none.
      timeout: seconds that a request may take.
      most_body: bytes of a body.
      started: seconds since the epoch.
    """

    engines: Mapping[str, Engine]
    weights: Mapping[str, str]
    key: str = ""
    timeout: float = 600.0
    most_body: int = 64_000_000
    started: int = dataclasses.field(default_factory=lambda: int(time.time()))

    @property
    def ready(self) -> bool:
        """Whether every engine has compiled what is usual, and none has failed."""
        return all(engine.ready.is_set() and engine.failure is None for engine in self.engines.values())

    def engine(self, given: Mapping[str, Any]) -> tuple[str, Engine]:
        """The engine that a body names; the main one where it names none. Raises BadRequest."""
        name = given.get("model")
        if name is None or name == "":
            name = next(iter(self.engines))
        if not isinstance(name, str) or name not in self.engines:
            why = f"there is no model {str(name)[:100]!r} here; there is {', '.join(self.engines)}"
            raise BadRequest(why, "model", 404, "model_not_found")
        if not self.ready:
            raise BadRequest("the model is still being compiled; try again soon", None, 503, "not_ready")
        return name, self.engines[name]

    def submit(self, engine: Engine, wanted: Request, listen: Callable[[str, Any], None] | None = None) -> Job:
        """Queues a request. Raises BadRequest: refused, or the queue is full."""
        try:
            return engine.submit(wanted, listen, self.timeout)
        except Full as error:
            raise BadRequest(str(error), None, 429, "queue_full") from None
        except Stopped as error:
            raise BadRequest(str(error), None, 503, "stopped") from None
        except DataError as error:
            raise BadRequest(str(error), None, 400, "not_served") from None

    async def serve(self, engine: Engine, wanted: Sequence[Request], gone: Gone) -> list[Result]:
        """Results of some requests; cancels them when the client leaves. Raises BadRequest, Canceled."""
        jobs: list[Job] = []
        try:
            for one in wanted:
                jobs.append(await asyncio.to_thread(self.submit, engine, one))
            waiting = {asyncio.wrap_future(job.future) for job in jobs}
            for one in waiting:  # whoever leaves reads no outcome
                one.add_done_callback(lambda found: found.cancelled() or found.exception())
            while waiting:
                _, waiting = await asyncio.wait(waiting, timeout=0.25)
                if waiting and await gone():
                    raise Canceled("the client has left")
            return [result_of(job) for job in jobs]
        finally:
            for job in jobs:
                job.cancel()

    @contextlib.asynccontextmanager
    async def watch(self, engine: Engine, wanted: Request) -> AsyncIterator[tuple[Job, asyncio.Queue]]:
        """A request and the queue of what it tells: (kind, value), last ("end", None); cancels it at the end."""
        loop, told = asyncio.get_running_loop(), asyncio.Queue()

        def listen(kind: str, value: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may have closed
                loop.call_soon_threadsafe(told.put_nowait, (kind, value))

        job = await asyncio.to_thread(self.submit, engine, wanted, listen)
        try:
            yield job, told
        finally:
            job.cancel()


def result_of(job: Job) -> Result:
    """The result of a job that has ended. Raises BadRequest: it took too long."""
    try:
        return job.result(0)
    except TimeoutError as error:
        raise BadRequest(str(error), None, 504, "timeout") from None
