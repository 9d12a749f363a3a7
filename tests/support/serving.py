"""A server in a thread of the test's own process, at a free port."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn

from sgt_jax.inference.engine import Engine, Limits
from sgt_jax.inference.page.app import make_app
from sgt_jax.inference.page.service import Service


@contextlib.contextmanager
def running(assistant, limits=Limits(), key="", **more) -> Iterator[tuple[str, Service]]:  # noqa: B008
    """(address, service) of a server of one model, "nano"; programs are compiled when they are needed."""
    engines = {"nano": Engine(assistant, limits)} | more.pop("others", {})
    with served(Service(engines, dict.fromkeys(engines, "nano"), key, **more)) as found:
        yield found


@contextlib.contextmanager
def served(service: Service) -> Iterator[tuple[str, Service]]:
    """(address, service) of a server of some engines, which begin to work."""
    engines = service.engines
    for engine in engines.values():
        engine.start(warm=False)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(service), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not (server.started and service.ready):
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", service
    finally:
        server.should_exit = True
        thread.join(20)
        for engine in engines.values():
            engine.stop()
