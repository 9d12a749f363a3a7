"""The routes of the server, and what stands before all of them: the key, bounds of bodies, errors in the dialect's form."""

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from sgt_jax.assets import resource
from sgt_jax.inference.jobs import Canceled
from sgt_jax.inference.page import about, chat, metrics, pictures, reading
from sgt_jax.inference.page.reading import BadRequest
from sgt_jax.inference.page.service import Service

# The page loads nothing from elsewhere, and no other page may show it.
_POLICY = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
STATIC = {"": "page.html", **{n: n for n in ("page.css", "page.js", "parts.js", "settings.js", "icon.svg")}}
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = ((b"content-security-policy", _POLICY.encode()), (b"x-content-type-options", b"nosniff"))
_LEFT = 499  # of a client that has gone; nobody reads it
_EVENTS = {"media_type": "text/event-stream", "headers": {"Cache-Control": "no-store"}}


def make_app(service: Service, close: Callable[[], None] = lambda: None) -> FastAPI:
    """The server's application; `close` runs after the last request was answered."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(close)

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    counters = metrics.Counters(service)
    _add_guards(app, service, counters)
    _add_facts(app, service, counters)
    _add_chat(app, service, counters)
    _add_pictures(app, service)
    return app


def error(status: int, message: str, param: str | None = None, code: str | None = None) -> Response:
    """An error in the dialect's form."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    headers = {"Retry-After": "5"} if status in (429, 503) else {}
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return Response(json.dumps(body), status, headers, "application/json")


def as_json(value: Any) -> Response:
    """A reply; letters beyond ASCII are escaped, so that any text can be sent."""
    return Response(json.dumps(value), media_type="application/json")


# -- Before all routes -------------------------------------------------------------------------------------------------


def _add_guards(app: FastAPI, service: Service, counters: metrics.Counters) -> None:
    @app.exception_handler(BadRequest)
    async def bad(request: Request, found: BadRequest) -> Response:
        return error(found.status, str(found), found.param, found.code)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, found: HTTPException) -> Response:
        return error(found.status_code, str(found.detail))

    @app.exception_handler(Canceled)
    async def left(request: Request, found: Canceled) -> Response:
        return Response(status_code=_LEFT)

    @app.exception_handler(Exception)
    async def fault(request: Request, found: Exception) -> Response:
        return error(500, "a fault of the server's; its log says where")

    app.add_middleware(Guard, service=service, counters=counters)


class Guard:
    """Asks for the key, counts and times every request, and adds the headers that all responses have."""

    def __init__(self, app: Any, service: Service, counters: metrics.Counters) -> None:
        self._app, self._service, self._counters = app, service, counters

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path, app = scope["path"], self._app
        if (path.startswith("/v1/") or path == "/metrics") and not _has_key(Request(scope), self._service.key):
            app = error(401, "a wrong API key, or none: send Authorization: Bearer KEY", code="invalid_api_key")
        with self._counters.timed(path) as timed:

            async def answer(message: Any) -> None:
                if message["type"] == "http.response.start":
                    timed.begun(message["status"])
                    message["headers"] = [*message.get("headers", ()), *_HEADERS]
                await send(message)

            await app(scope, receive, answer)


def _has_key(request: Request, key: str) -> bool:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    return not key or hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())


async def body_of(request: Request, most: int) -> bytes:
    """The body. Raises BadRequest: it has more than `most` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise BadRequest(f"the body has more than {most} bytes", None, 413, "too_large")
        parts.append(part)
    return b"".join(parts)


# -- Routes ------------------------------------------------------------------------------------------------------------


def _add_facts(app: FastAPI, service: Service, counters: metrics.Counters) -> None:
    @app.get("/health")
    async def health() -> Response:
        if service.ready:
            return as_json({"status": "ok"})
        failed = any(engine.failure is not None for engine in service.engines.values())
        why = "the engine has failed; see the server's log" if failed else "the model is still being compiled"
        return error(503, why, code="failed" if failed else "not_ready")

    @app.get("/v1/models")
    async def models() -> Response:
        return as_json({"object": "list", "data": [about.model(service, name) for name in service.engines]})

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        if name not in service.engines:
            raise BadRequest(f"there is no model {name[:100]!r} here", "model", 404, "model_not_found")
        return as_json(about.model(service, name))

    @app.get("/metrics")
    async def numbers() -> Response:
        return Response(counters.text(), media_type="text/plain; version=0.0.4")

    @app.get("/about.json")
    async def for_the_page() -> Response:
        return as_json(about.page(service))

    for name, file in STATIC.items():
        path = Path(resource(f"package:serve/{file}"))
        app.add_api_route(f"/{name}", _static(path), methods=["GET"])


def _static(path: Path) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(path, media_type=_TYPES[path.suffix], headers={"Cache-Control": "no-cache"})

    return send


def _add_chat(app: FastAPI, service: Service, counters: metrics.Counters) -> None:
    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        body = await body_of(request, service.most_body)
        asked = await asyncio.to_thread(chat.ask, service, body)
        if asked.stream:
            return StreamingResponse(await chat.first(counters.counted(chat.stream(service, asked))), **_EVENTS)
        found = await chat.answer(service, asked, request.is_disconnected)
        counters.tokens(found["usage"])
        return as_json(found)


def _add_pictures(app: FastAPI, service: Service) -> None:
    async def painted(request: Request, mode: str, most: int) -> Response:
        given, photos = await _fields(request, service.most_body)
        if mode == "t2i":
            photos = []
        if mode != "t2i" and not 1 <= len(photos) <= most:
            raise BadRequest(f"'image' must be {'one picture' if most == 1 else f'1 to {most} pictures'}", "image")
        asked = await asyncio.to_thread(pictures.ask, service, mode, given, photos)
        if asked.stream:
            return StreamingResponse(await chat.first(pictures.stream(service, asked)), **_EVENTS)
        return as_json(await pictures.paint(service, asked, request.is_disconnected))

    @app.post("/v1/images/generations")
    async def generations(request: Request) -> Response:
        return await painted(request, "t2i", 0)

    @app.post("/v1/images/edits")
    async def edits(request: Request) -> Response:
        return await painted(request, "edit", about.most_references(service))

    @app.post("/v1/segmentations")
    async def segmentations(request: Request) -> Response:
        return await painted(request, "segment", 1)


async def _fields(request: Request, most: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The fields of a form or a JSON object, and the pictures in `image` or `image[]`. Raises BadRequest."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        request._body = await body_of(request, most)
        try:
            form = await request.form(max_files=reading.MOST_PICTURES, max_fields=100)
        except HTTPException as found:
            raise BadRequest(str(found.detail)) from None
        given = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        files = [(n, v) for n, v in form.multi_items() if isinstance(v, UploadFile)]
        if any(name == "mask" for name, _ in files):
            given["mask"] = "a file"
        data = [await value.read() for name, value in files if name in ("image", "image[]")]
        return given, await asyncio.to_thread(lambda: [reading.picture(one, "image") for one in data])
    given = reading.json_object(await body_of(request, most))
    found = given.get("image")
    uris = found if isinstance(found, list) else [] if found is None else [found]
    if len(uris) > reading.MOST_PICTURES:
        raise BadRequest(f"more than {reading.MOST_PICTURES} pictures in one request", "image")
    return given, await asyncio.to_thread(lambda: [reading.data_uri(one, "image") for one in uris])
