"""/v1/chat/completions: answers, whole or as a stream of server-sent events."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from sgt_jax.inference.engine import Engine
from sgt_jax.inference.jobs import Request, Result
from sgt_jax.inference.page import reading
from sgt_jax.inference.page.reading import BadRequest
from sgt_jax.inference.page.service import Gone, Service, result_of

MOST_ANSWERS = 8
USUAL_TOKENS = 1024


class Asked(NamedTuple):
    """A body, read: the model and its engine, one request per answer, words that end an answer, how to reply."""

    model: str
    engine: Engine
    requests: list[Request]
    stops: list[str]
    stream: bool
    usage: bool


def ask(service: Service, body: bytes) -> Asked:
    """Reads a body; takes as long as its pictures take to decode. Raises BadRequest."""
    given = reading.json_object(body)
    model, engine = service.engine(given)
    for name in ("logprobs", "top_logprobs"):
        if given.get(name):
            raise BadRequest(f"'{name}' is not offered", name)
    count = reading.whole(given, "n", 1, 1, MOST_ANSWERS)
    limit = "max_completion_tokens" if given.get("max_completion_tokens") is not None else "max_tokens"
    most = reading.whole(given, limit, USUAL_TOKENS, 1, 10**9)
    temperature = reading.number(given, "temperature", 0.0, 0.0, 100.0)
    options = given.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object", "stream_options")
    seed, history = reading.seed(given), reading.history(given.get("messages"))
    common = dict(
        max_new_tokens=most, temperature=temperature, ignore_end=reading.flag(given, "ignore_eos"),
        think=reading.flag(given, "think"),
    )  # fmt: skip
    requests = [Request(history, "chat", (seed + i) % reading.MOST_SEED, **common) for i in range(count)]
    return Asked(
        model, engine, requests, reading.stops(given), reading.flag(given, "stream"),
        reading.flag(options or {}, "include_usage"),
    )  # fmt: skip


async def answer(service: Service, asked: Asked, gone: Gone) -> dict[str, Any]:
    """The whole reply. Raises BadRequest."""
    results = await service.serve(asked.engine, asked.requests, gone)
    choices = []
    for number, result in enumerate(results):
        content, reason = finished(asked, result)
        message = {"role": "assistant", "content": content, "refusal": None}
        choices.append({"index": number, "message": message, "finish_reason": reason, "logprobs": None})
    return _head(asked.model, "chat.completion") | {"choices": choices, "usage": usage(results)}


def finished(asked: Asked, result: Result) -> tuple[str, str]:
    """The text of a result up to the first word that ends it, and why it ended."""
    whole = asked.engine.assistant.tokenizer.decode(result.ids)
    content = cut(whole, asked.stops)
    return content, "stop" if result.ended or content != whole else "length"


def cut(text: str, stops: list[str]) -> str:
    """The text before the first of the words that end it."""
    return text[: min((place for place in map(text.find, stops) if place >= 0), default=len(text))]


def usage(results: list[Result]) -> dict[str, int]:
    """Tokens read, pictures included, and written."""
    read, written = results[0].read, sum(len(result.ids) for result in results)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


async def stream(service: Service, asked: Asked) -> AsyncIterator[bytes]:
    """The reply as events, the answers one after the other. Errors before the first token are raised, later ones sent."""
    head = _head(asked.model, "chat.completion.chunk")
    results = []
    for number, wanted in enumerate(asked.requests):
        async for piece, reason, result in _pieces(service, asked, wanted):
            delta = {"role": "assistant", "content": piece} if piece is not None else {}
            choice = {"index": number, "delta": delta, "finish_reason": reason, "logprobs": None}
            yield event(head | {"choices": [choice]})
            if result is not None:
                results.append(result)
    if asked.usage:
        yield event(head | {"choices": [], "usage": usage(results)})
    yield b"data: [DONE]\n\n"


async def _pieces(
    service: Service, asked: Asked, wanted: Request
) -> AsyncIterator[tuple[str | None, str | None, Result | None]]:
    """(text, None, None) as it is written, and last (None, why it ended, the result)."""
    decode, ids, sent = asked.engine.assistant.tokenizer.decode, [], 0
    held = max((len(word) - 1 for word in asked.stops), default=0)  # letters that may be the beginning of such a word
    async with service.watch(asked.engine, wanted) as (job, told):
        stopped = False
        while True:
            kind, value = await told.get()
            if kind == "end":
                break
            ids += value
            whole = decode(ids)
            content = cut(whole, asked.stops)
            stopped = content != whole
            # A letter may be spread over several tokens.
            ready = content if stopped else content[: len(content) - held].rstrip("\ufffd")
            if len(ready) > sent:
                yield ready[sent:], None, None
                sent = len(ready)
            if stopped:
                break
        if stopped:
            job.cancel()
            result = Result(tuple(ids), read=job.prepared.length)
            yield None, "stop", result
            return
        result = result_of(job)
        content, reason = finished(asked, result)
        if len(content) > sent:
            yield content[sent:], None, None
        yield None, reason, result


def event(value: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


async def first(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same events, once the first has come: until then an error is still the response's own. Raises BadRequest."""
    begun = await anext(events)

    async def rest() -> AsyncIterator[bytes]:
        try:
            yield begun
            async for one in events:
                yield one
        except BadRequest as error:
            yield event({"error": {"message": str(error), "type": "server_error", "param": None, "code": error.code}})
        finally:
            await asyncio.shield(events.aclose())

    return rest()
