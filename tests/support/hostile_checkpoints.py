"""Damaged and malicious safetensors files, made from a good one, for the reader's tests. No JAX."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

GOOD = {
    "first": np.arange(6, dtype=np.float32).reshape(2, 3),
    "second": np.arange(8, dtype=np.int64),
    "third": np.arange(5, dtype=np.uint8),
}


def layout() -> tuple[dict[str, Any], bytes]:
    """(header, data) of the good file."""
    header, data = {}, b""
    names = {"float32": "F32", "int64": "I64", "uint8": "U8"}
    for name, array in GOOD.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {
            "dtype": names[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
        data += array.tobytes()
    return header, data


def assemble(header: Any, data: bytes, length: int | None = None) -> bytes:
    """The bytes of a file whose header is a JSON value, or raw bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def mutants() -> Iterator[tuple[str, bytes]]:
    """(what was done, the bytes of the file); every one must be refused."""
    header, data = layout()
    good = assemble(header, data)
    text = json.dumps(header).encode()

    # Truncation, and things that are not safetensors at all.
    yield "empty", b""
    for count in (1, 7, 8, 9, 20, len(good) // 2, len(good) - len(data), len(good) - 9, len(good) - 1):
        yield f"only the first {count} bytes", good[:count]
    yield "git-lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 29214567832\n"
    yield "zip (a PyTorch file)", b"PK\x03\x04" + bytes(range(256)) * 8
    yield "html error page", b"<!DOCTYPE html><html><body>404</body></html>" * 10
    yield "zeros", bytes(4096)
    yield "random bytes", np.random.default_rng(0).bytes(4096)
    yield "trailing bytes", good + b"\0" * 3

    # Header lengths.
    for length in (0, 1, len(text) - 1, len(text) + 1, len(good), 10**8, 10**8 + 1, 2**40, 2**63 - 1, 2**64 - 1):
        yield f"header length {length}", assemble(text, data, length)
    yield "header length in big-endian", struct.pack(">Q", len(text)) + text + data

    # JSON.
    for name, raw in {
        "list": b"[]",
        "number": b"12345678",
        "null": b"null",
        "starts with a space": b" " + text,
        "byte order mark": b"\xef\xbb\xbf" + text,
        "not closed": text[:-1],
        "text after it": text + b"x",
        "single quotes": text.replace(b'"', b"'"),
        "invalid UTF-8": text.replace(b"first", b"fir\xff\xfe"),
        "UTF-16": text.decode().encode("utf-16"),
        "deep nesting": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        "huge integer": text.replace(b"[0, 24]", b"[0, " + b"9" * 10_000 + b"]"),
        "same name twice": b'{"first":' + json.dumps(header["first"]).encode() + b"," + text[1:],
        "NaN shape": text.replace(b"[2, 3]", b"[NaN, 3]"),
        "Infinity offset": text.replace(b"[0, 24]", b"[0, Infinity]"),
    }.items():
        yield f"JSON: {name}", assemble(raw, data)

    # One field of one entry.
    changes = {
        "dtype": ["F31", "f32", "", None, 4, ["F32"], "F64", "BF16", "F32\0", "x" * 10_000],
        "shape": [
            [2],
            [3, 3],
            [-2, -3],
            [2.0, 3],
            ["2", 3],
            [True, 6],
            None,
            6,
            "2x3",
            {"0": 2},
            [[2, 3]],
            [2**32, 2**32],
            [2**62, 4],
            [2**64 + 2, 3],
            [10**400, 3],
            [1] * 40 + [6],
            [0, 2**63],
        ],
        "data_offsets": [
            [0, 23],
            [0, 25],
            [24, 0],
            [1, 25],
            [-24, 0],
            [0, 2**63],
            [0, 2**64 + 24],
            [2**70, 2**70 + 24],
            [0],
            [0, 12, 24],
            [],
            None,
            24,
            ["0", "24"],
            [0.0, 24.0],
            [False, 24],
            {"begin": 0},
        ],
    }
    for field, values in changes.items():
        for value in values:
            yield f"{field} = {str(value)[:40]}", assemble({**header, "first": {**header["first"], field: value}}, data)
        entry = {key: value for key, value in header["first"].items() if key != field}
        yield f"no {field}", assemble({**header, "first": entry}, data)
    for value in (None, [], "F32", 3):
        yield f"entry = {value}", assemble({**header, "first": value}, data)

    # Tensors against each other.
    second = header["second"]
    shift = [offset - 8 for offset in second["data_offsets"]]
    yield "overlap", assemble({**header, "second": {**second, "data_offsets": shift}}, data)
    yield "one range twice", assemble({**header, "copy": second}, data)
    yield "a hole", assemble({name: entry for name, entry in header.items() if name != "second"}, data)
    yield "no last tensor", assemble({name: entry for name, entry in header.items() if name != "third"}, data)
    yield "no first tensor", assemble({name: entry for name, entry in header.items() if name != "first"}, data)
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [10, 10]}
    yield "an empty tensor inside another", assemble({**header, "empty": empty}, data)
    beyond = {"dtype": "U8", "shape": [2**45], "data_offsets": [69, 69 + 2**45]}
    yield "a tensor of 35 TB", assemble({**header, "beyond": beyond}, data)

    # Metadata.
    for value in ([], "text", 5, {"a": 1}, {"a": None}, {"a": {"b": "c"}}):
        yield f"metadata = {value}", assemble({"__metadata__": value, **header}, data)
