"""Bodies of requests, checked: all is bounded before it is decoded, and nothing in it can name a file or a host."""

import base64
import binascii
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.data.pictures.reading import load_rgb, picture_size
from sgt_jax.errors import DataError, UserError

MOST_BYTES = 20_000_000  # of one encoded picture
MOST_PIXELS = 40_000_000  # of one picture
MOST_PICTURES = 16  # of one request
MOST_SEED = 2**31 - 1
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


class BadRequest(UserError):
    """A request that cannot be served, with what the dialect says about errors.

    Attributes:
      status: of the response.
      param: the field at fault, or None.
      code: a word for programs, or None.
    """

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body holds. Raises BadRequest."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON; send a JSON object, as in docs/serving.md") from None
    if not isinstance(found, dict):
        raise BadRequest("the body must be a JSON object")
    return found


def text(given: Mapping[str, Any], name: str, default: str | None = None, most: int = 100_000) -> str:
    """A text of a body. Raises BadRequest: missing without a default, no text, or too long."""
    found = given.get(name)
    if found is None and default is not None:
        return default
    return checked_text(found, name, most)


def checked_text(found: Any, name: str, most: int = 100_000) -> str:
    """A text. Raises BadRequest: no text, too long, or not Unicode."""
    if not isinstance(found, str):
        raise BadRequest(f"'{name}' must be a text", name)
    if len(found) > most:
        raise BadRequest(f"'{name}' has {len(found)} letters; send {most} at most", name)
    try:
        found.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest(f"'{name}' holds half of a surrogate pair, which is no letter", name) from None
    return found


def number(given: Mapping[str, Any], name: str, default: float | None, low: float, high: float) -> float | None:
    """A finite number between bounds, also one that a form sends as text. Raises BadRequest."""
    found = given.get(name)
    if found is None or found == "":
        return default
    if isinstance(found, str):
        try:
            found = float(found)
        except ValueError:
            found = None
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < math.inf or not low <= found <= high:
        raise BadRequest(f"'{name}' must be a number from {low:g} to {high:g}", name)
    return float(found)


def whole(given: Mapping[str, Any], name: str, default: int | None, low: int, high: int) -> int | None:
    """A whole number between bounds. Raises BadRequest."""
    found = number(given, name, None if default is None else float(default), low, high)
    if found is not None and found != int(found):
        raise BadRequest(f"'{name}' must be a whole number", name)
    return None if found is None else int(found)


def flag(given: Mapping[str, Any], name: str) -> bool:
    """True or false, false where it is missing; forms send texts. Raises BadRequest."""
    found = given.get(name)
    known = {None: False, False: False, True: True, "": False, "false": False, "true": True}
    if isinstance(found, dict | list | int | float) and not isinstance(found, bool) or found not in known:
        raise BadRequest(f"'{name}' must be true or false", name)
    return known[found]


def seed(given: Mapping[str, Any]) -> int:
    """The seed of a request, 0 where it has none; larger ones are taken modulo 2^31 - 1. Raises BadRequest."""
    found = given.get("seed")
    if isinstance(found, int) and not isinstance(found, bool) and abs(found) >= MOST_SEED:
        return found % MOST_SEED
    return (whole(given, "seed", 0, -MOST_SEED, MOST_SEED) or 0) % MOST_SEED


def data_uri(uri: Any, name: str) -> np.ndarray:
    """The picture uint8 [H, W, 3] in a data URI. Raises BadRequest: anything else, such as an address or a path."""
    if not isinstance(uri, str) or not uri[:5].lower() == "data:":
        raise BadRequest(f"'{name}' must be a data URI (data:image/png;base64,...); addresses and paths are not opened", name)
    head, comma, data = uri.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise BadRequest(f"'{name}': a data URI must be in base64", name)
    if len(data) > MOST_BYTES * 4 / 3 + 4:
        raise BadRequest(f"'{name}': the picture has more than {MOST_BYTES} bytes", name, 413)
    try:
        return picture(base64.b64decode("".join(data.split()), validate=True), name)
    except (binascii.Error, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise BadRequest(f"'{name}': not base64", name) from None


def picture(data: bytes, name: str) -> np.ndarray:
    """The picture uint8 [H, W, 3] in some bytes, upright. Raises BadRequest: too large, or not readable."""
    if len(data) > MOST_BYTES:
        raise BadRequest(f"'{name}': the picture has {len(data)} bytes; send {MOST_BYTES} at most", name, 413)
    try:
        width, height = picture_size(data, name, _FORMATS)
    except DataError:
        raise BadRequest(f"'{name}': not a picture in {', '.join(_FORMATS)}", name) from None
    if width * height > MOST_PIXELS:
        raise BadRequest(f"'{name}': the picture has {width}x{height} pixels; send {MOST_PIXELS} at most", name, 413)
    try:
        return load_rgb(io.BytesIO(data), upright=True, name="the picture")
    except DataError as error:
        raise BadRequest(f"'{name}': {error}".replace("; download it again, or set on_bad='skip'", ""), name) from None


def history(messages: Any) -> list[str | np.ndarray]:
    """Texts and pictures of chat messages in the order in which they are read. Raises BadRequest."""
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list with at least one message", "messages")
    out: list[str | np.ndarray] = []
    for place, message in enumerate(messages):
        name = f"messages[{place}]"
        if not isinstance(message, dict) or message.get("role") not in ("system", "developer", "user", "assistant"):
            raise BadRequest(f"'{name}.role' must be system, developer, user or assistant", name)
        content = message.get("content")
        if content is None and message["role"] == "assistant":
            continue
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list):
            raise BadRequest(f"'{name}.content' must be a text or a list of parts", name)
        for number, part in enumerate(parts):
            out += _part(part, f"{name}.content[{number}]")
    if sum(not isinstance(entry, str) for entry in out) > MOST_PICTURES:
        raise BadRequest(f"more than {MOST_PICTURES} pictures in one request", "messages")
    if not out:
        raise BadRequest("the messages hold neither a text nor a picture", "messages")
    return out


def _part(part: Any, name: str) -> Sequence[str | np.ndarray]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        found = checked_text(part.get("text"), f"{name}.text")
        return [found] if found.strip() else []
    if kind == "image_url":
        given = part.get("image_url")
        return [data_uri(given.get("url") if isinstance(given, dict) else given, f"{name}.image_url")]
    raise BadRequest(f"'{name}.type' must be text or image_url: this model reads texts and pictures", name)


def stops(given: Mapping[str, Any]) -> list[str]:
    """The texts that end an answer. Raises BadRequest."""
    found = given.get("stop")
    found = [] if found is None else [found] if isinstance(found, str) else found
    if not isinstance(found, list) or len(found) > 16:
        raise BadRequest("'stop' must be a text or a list of up to 16 texts", "stop")
    return [word for word in (checked_text(word, "stop", 1000) for word in found) if word]
