"""The safetensors header, read as a stranger's claim: all of it is checked against the file's size.

The format: 8 bytes with the little-endian length of a JSON header, the header
`{name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {str: str}}`, padded with spaces,
then the tensors' bytes without gaps. Offsets count from the end of the header.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from sgt_jax.errors import AGAIN, CheckpointError

# In the order of the format's own writer: tensors of wide types come first, so all of them are aligned.
_TYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "I16": np.int16,
    "U16": np.uint16,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I32": np.int32,
    "U32": np.uint32,
    "F32": np.float32,
    "F64": np.float64,
    "I64": np.int64,
    "U64": np.uint64,
}
DTYPES = {name: np.dtype(kind) for name, kind in _TYPES.items()}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_RANK = {dtype: rank for rank, dtype in enumerate(DTYPE_NAMES)}

MAX_HEADER = 100_000_000  # the format's own limit


class Tensor(NamedTuple):
    """What a header says about one tensor. `begin` is the offset of its first byte in the file."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def shown(value: Any) -> str:
    """A stranger's value for an error message: escaped and not longer than a line."""
    text = ascii(value)
    return text if len(text) <= 120 else text[:120] + "..."


def strict_json(path: str, raw: bytes, what: str) -> Any:
    """JSON without the parser's leniencies: no duplicate names, no NaN, strict UTF-8."""

    def no_duplicates(pairs):
        seen = {}
        for name, value in pairs:
            if name in seen:
                raise CheckpointError(path, f"its {what} has {shown(name)} twice.")
            seen[name] = value
        return seen

    def no_constant(text):
        raise CheckpointError(path, f"its {what} holds {text}, which JSON does not have.")

    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except CheckpointError:
        raise
    except UnicodeDecodeError as error:
        raise CheckpointError(path, f"its {what} is not UTF-8 text (byte {error.start}).") from None
    except ValueError as error:  # JSONDecodeError, or an integer of thousands of digits
        raise CheckpointError(path, f"its {what} is not valid JSON ({str(error)[:120]}).") from None
    except RecursionError:
        raise CheckpointError(path, f"its {what} is nested absurdly deep.") from None


def header_length(path: str, start: bytes, size: int) -> int:
    """The length of the header of a file of `size` bytes that begins with `start` (40 bytes or all)."""
    if start.startswith(b"version https://git-lfs"):
        advice = "Run `git lfs pull` in its repository, or download the file."
        raise CheckpointError(path, "is a Git LFS pointer, not the file itself.", advice)
    if len(start) < 9:
        raise CheckpointError(path, f"has only {size} bytes: it is empty or truncated.")
    (length,) = struct.unpack("<Q", start[:8])
    if length > min(MAX_HEADER, size - 8):
        limit = "the format allows 100 MB" if length > MAX_HEADER else f"the file has {size} in all"
        why = f"claims a header of {length} bytes, but {limit}: it is truncated or not a safetensors file."
        raise CheckpointError(path, why, "Download it again (convert PyTorch .pt/.bin files first).")
    return length


def _tensor(path: str, name: str, entry: Any, data: int, size: int) -> Tensor:
    """One entry of the header, checked by itself."""

    def error(why: str, advice: str = AGAIN):
        return CheckpointError(path, f"tensor {shown(name)} {why}.", advice)

    def is_size(value):
        return type(value) is int and value >= 0  # bool is an int to Python; here it is not

    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise error("is not described by dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise error(f"has the unknown dtype {shown(kind)}", f"Convert it to one of {', '.join(DTYPES)}.")
    if not isinstance(shape, list) or len(shape) > 32 or not all(map(is_size, shape)):
        raise error(f"has shape {shown(shape)}, which is not a list of at most 32 sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_size, offsets)):
        raise error(f"has data_offsets {shown(offsets)}, which is not [begin, end]")
    if math.prod(max(side, 1) for side in shape) >= 1 << 60:  # NumPy refuses it even if another side is 0
        raise error(f"has the impossible shape {shown(shape)}")
    begin, end = offsets
    if end > size - data:
        why = f"ends at byte {shown(end)} of the data, but the file has only {size - data}"
        raise error(why + ": it is truncated or damaged")
    tensor = Tensor(name, DTYPES[kind], tuple(shape), data + begin)
    if tensor.nbytes != end - begin:
        claim = f"of dtype {kind} and shape {shown(shape)} needs {shown(tensor.nbytes)} bytes"
        raise error(f"{claim}, but its data_offsets are {shown(offsets)}")
    return tensor


def parse_header(path: str, raw: bytes, size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors by name in file order, metadata) from the header of a file of `size` bytes."""
    data = 8 + len(raw)
    if raw[:1] != b"{":
        raise CheckpointError(path, f"its header starts with {shown(raw[:1])}: it is not a safetensors file.")
    header = strict_json(path, raw, "header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(path, "its __metadata__ is not an object of strings.")
    tensors = [_tensor(path, name, entry, data, size) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.nbytes))
    position = data
    for tensor in tensors:
        if tensor.begin < position:
            raise CheckpointError(path, f"tensor {shown(tensor.name)} overlaps the tensor before it.")
        if tensor.begin > position:
            hole = tensor.begin - position
            raise CheckpointError(path, f"has a hole of {hole} bytes before tensor {shown(tensor.name)}.")
        position += tensor.nbytes
    if position != size:
        raise CheckpointError(path, f"has {size - position} bytes after its last tensor.")
    return {tensor.name: tensor for tensor in tensors}, metadata


def format_header(
    path: str, tensors: Mapping[str, tuple[DTypeLike, Sequence[int]]], metadata: Mapping[str, str] | None
) -> tuple[bytes, dict[str, Tensor], int]:
    """(the first bytes of the file, its tensors by name, its size) for (dtype, shape) by name."""
    entries = {name: (np.dtype(dtype), tuple(map(int, shape))) for name, (dtype, shape) in tensors.items()}
    for name, (dtype, _) in entries.items():
        if dtype not in DTYPE_NAMES:
            why = f"cannot hold tensor {shown(name)} of dtype {dtype}."
            raise CheckpointError(path, why, f"Cast it to one of {', '.join(DTYPES)}.")
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    places = {}
    position = 0
    for name in sorted(entries, key=lambda name: (-_RANK[entries[name][0]], name)):
        dtype, shape = entries[name]
        places[name] = position
        position += math.prod(shape) * dtype.itemsize
        offsets = [places[name], position]
        header[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": offsets}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise CheckpointError(path, "would have a header above the format's 100 MB.", "Write fewer tensors.")
    data = 8 + len(text)
    found = {name: Tensor(name, *entries[name], data + place) for name, place in places.items()}
    return struct.pack("<Q", len(text)) + text, found, data + position
