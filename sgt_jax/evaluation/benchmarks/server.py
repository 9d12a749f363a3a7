"""Asks an OpenAI-style server instead of a model of ours: pictures first, the text last, greedy."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks.answering import Progress, Question, bad_entry
from sgt_jax.evaluation.benchmarks.items import Picture
from sgt_jax.evaluation.benchmarks.records import Records

_MIME = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}
_TRIES = 3
_SECONDS = 600


def _url(picture: Picture) -> str:
    data = picture.encoded()
    kind = next((name for start, name in _MIME.items() if data.startswith(start)), "png")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def request_body(question: Question, model: str, max_new_tokens: int) -> dict[str, Any]:
    """The request of one question. Raises DataError for an unreadable picture."""
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": _url(p)}} for p in question.item.pictures
    ]
    content.append({"type": "text", "text": question.text})
    message = {"role": "user", "content": content}
    return {"model": model, "messages": [message], "max_tokens": max_new_tokens, "temperature": 0, "n": 1}


def ask(
    questions: Sequence[Question], records: Records, *, base_url: str, model: str, key: str, max_new_tokens: int,
    batch: int, progress: Progress = lambda done, total: None,
) -> None:  # fmt: skip
    """Answers what is not in `records`, `batch` requests at a time.

    Raises:
      DataError: the server fails three times on one question; what is answered stays, so the command can be repeated.
    """

    def one(question: Question) -> dict[str, Any]:
        try:
            body = request_body(question, model, max_new_tokens)
        except DataError as error:
            return bad_entry(question.item.index, str(error))
        return {"index": question.item.index, "reply": _reply(base_url, key, body)}

    for question in questions:
        if question.bad and question.item.index not in records:
            records.append(bad_entry(question.item.index, question.bad))
    waiting = [q for q in questions if q.item.index not in records]
    with ThreadPoolExecutor(batch) as pool:
        for start in range(0, len(waiting), batch):
            for entry in pool.map(one, waiting[start : start + batch]):
                records.append(entry)
            progress(len(records), len(questions))


def _reply(base_url: str, key: str, body: dict[str, Any]) -> str:
    request = urllib.request.Request(
        f"{base_url.rstrip('/')}/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {key}"},
    )
    why: Exception | str = ""
    for _ in range(_TRIES):
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                return str(json.load(answer)["choices"][0]["message"]["content"] or "").strip()
        except (urllib.error.URLError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
            why = error
    raise DataError(f"{base_url}: {_TRIES} requests failed, the last with {why}; run the command again to go on")
