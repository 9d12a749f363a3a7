"""Reads the cells of tables, in all the forms that people give them: pictures and texts."""

import ast
import base64
import binascii
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.data.sources.reading import files
from sgt_jax.data.stored.record import BadRecord

_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n-_")
_LEAST_BASE64 = 40  # characters; a shorter text is a path
NOTHING = ("", "none", "null", "nan")  # what people's scripts write for no picture


def picture(cell: Any, name: str, folders: Sequence[Path] = ()) -> bytes:
    """The encoded picture in a cell: bytes, base64, the hub's {bytes, path}, a list of one, or a path below a folder.

    Args:
      folders: where paths may lie, the first that has the file.

    Raises:
      BadRecord: there is none, or its path leads elsewhere.
    """
    if isinstance(cell, list) and len(cell) == 1:
        cell = cell[0]
    if isinstance(cell, Mapping):
        unlike = cell.get("bytes") or cell.get("path") or cell.get("url")
        return picture(unlike, name, folders) if unlike else _missing(name, cell)
    if isinstance(cell, bytes | bytearray) and cell:
        return _from_base64(bytes(cell)) or bytes(cell)
    if isinstance(cell, str) and cell.strip().lower() not in NOTHING:
        return _from_base64(cell.encode("utf-8", "replace")) or _from_path(cell, name, folders)
    return _missing(name, cell)


def _missing(name: str, cell: Any) -> bytes:
    path = cell.get("path") if isinstance(cell, Mapping) else cell
    raise BadRecord(
        "missing picture",
        f"{name}: the cell of the picture holds no bytes ({path!r:.80}); download the file again",
    )


def _from_base64(data: bytes) -> bytes | None:
    """The bytes that a text in base64, perhaps a data: address, stands for; None for anything else."""
    if data.startswith(b"data:"):
        data = data.partition(b",")[2]
    if len(data) < _LEAST_BASE64 or not _BASE64.issuperset(data[:4096]):
        return None
    data = b"".join(data.split()).translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _from_path(cell: str, name: str, folders: Sequence[Path]) -> bytes:
    if "://" in cell:
        raise BadRecord(
            "picture elsewhere", f"{name}: the picture is an address ({cell:.80}); download it beside the table"
        )
    paths = [files.inside(folder, cell) for folder in folders]
    found = next((path for path in paths if path.is_file()), paths[0] if paths else None)
    if found is None:
        raise BadRecord("missing picture", f"{name}: the cell of the picture holds a path ({cell:.80}) and no bytes")
    try:
        return files.read_bytes(found)
    except BadRecord as error:
        raise BadRecord(error.kind, f"{name}: {error}") from error


def wordings(cell: Any, name: str, passed_over: Counter | None = None) -> list[str]:
    """The texts in a cell: one, a list, the values of a struct, or any of these as JSON in a text; blank ones left out.

    `passed_over` counts the values of structs that are no texts (scores and the like).

    Raises:
      BadRecord: none, broken JSON, or another type of cell.
    """
    texts = [text.strip() for text in _texts(cell, name, Counter() if passed_over is None else passed_over)]
    texts = [text for text in texts if text]
    if not texts:
        raise BadRecord("missing text", f"{name}: no caption or instruction; remove the row")
    return texts


def _texts(cell: Any, name: str, passed_over: Counter, key: str = "") -> list[str]:
    if cell is None:
        return []
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8")
    if isinstance(cell, str):
        inner = _unwrapped(cell, name)
        return [cell] if inner is None else _texts(inner, name, passed_over)
    if isinstance(cell, Mapping):
        return [text for k, value in cell.items() for text in _texts(value, name, passed_over, str(k))]
    if isinstance(cell, list | tuple):
        return [text for value in cell for text in _texts(value, name, passed_over, key)]
    if key:
        passed_over[f"fields '{key}' of a struct of texts"] += 1
        return []
    raise BadRecord("unknown cell", f"{name}: a caption or instruction must be a text, a list or a struct of texts, not "
                    f"{cell!r:.80}; name another column")  # fmt: skip


def _unwrapped(text: str, name: str) -> Any:
    """What a text holds that is a JSON object or list, or Python's way to write one; None for a plain text."""
    text = text.strip()
    if not (text.startswith("{") or (text.startswith("[") and text.endswith("]"))):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            if text.startswith("[") and text[1:2] not in ("'", '"', "[", "{"):
                return None  # "[logo]" is a caption
            reason = f"{name}: its text is not the JSON that it begins as ({error}); correct the cell"
            raise BadRecord("bad json", reason) from error
    if isinstance(found, list) and not any(isinstance(value, str | list | dict) for value in found):
        return None
    return found if isinstance(found, dict | list) else None
