"""Numbers in Prometheus form: requests, seconds, tokens, the queue, programs compiled, and the process's own."""

import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily

from sgt_jax.inference.page.service import Service

ROUTES = ("/v1/chat/completions", "/v1/images/generations", "/v1/images/edits", "/v1/segmentations", "/v1/models", "/health")
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Timed:
    """A request that is being answered: its status, and how long the first byte took."""

    def __init__(self) -> None:
        self.status, self._since, self.seconds = 500, time.perf_counter(), None

    def begun(self, status: int) -> None:
        """The response begins now."""
        self.status, self.seconds = status, time.perf_counter() - self._since


class Counters:
    """Counts for one server; of its own registry, so that several can live in one process."""

    def __init__(self, service: Service) -> None:
        self._service, self._registry = service, CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter("sgt_requests", "Requests answered", ["route", "status"], registry=self._registry)
        self._seconds = Histogram("sgt_request_seconds", "Until the reply, or a stream's first event", ["route"],
                                  buckets=_SECONDS, registry=self._registry)  # fmt: skip
        self._tokens = Counter("sgt_tokens", "Tokens of answered chats", ["kind"], registry=self._registry)
        self._registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Gauges that are read from the engines when somebody asks."""
        load = GaugeMetricFamily("sgt_load", "Requests waiting and in work", labels=["model", "what"])
        programs = GaugeMetricFamily("sgt_programs_compiled", "Programs compiled since the start", labels=["model"])
        for name, engine in self._service.engines.items():
            programs.add_metric([name], engine.programs.compiled)
            for what, count in engine.load().items():
                load.add_metric([name, what], count)
        yield from (load, programs)

    @contextlib.contextmanager
    def timed(self, path: str) -> Iterator[Timed]:
        """Counts and times one request; paths that nobody serves share one name."""
        route, timed = path if path in ROUTES else "other", Timed()
        try:
            yield timed
        finally:
            self._requests.labels(route, str(timed.status)).inc()
            if timed.seconds is not None:
                self._seconds.labels(route).observe(timed.seconds)

    def tokens(self, usage: Mapping[str, int]) -> None:
        """Counts the tokens of one chat."""
        self._tokens.labels("read").inc(usage["prompt_tokens"])
        self._tokens.labels("written").inc(usage["completion_tokens"])

    async def counted(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same events; every one with a text counts as the tokens that it brought, about one."""
        try:
            async for one in events:
                if b'"content"' in one:
                    self._tokens.labels("written").inc()
                elif b'"usage"' in one:
                    self._tokens.labels("read").inc(json.loads(one[6:])["usage"]["prompt_tokens"])
                yield one
        finally:
            await events.aclose()

    def text(self) -> bytes:
        """All numbers as text."""
        return generate_latest(self._registry)
