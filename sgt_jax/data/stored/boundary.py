"""The one place where whatever goes wrong in reading or decoding a record becomes a bad record with a kind and a reason.

Interrupts, lack of memory and too many open files pass through: they are not the record's. So do errors of tasks, proxies
and layouts, which work on what came through here.
"""

import dataclasses
import errno
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sgt_jax.errors import DataError, UserError

T = TypeVar("T")
_LARGEST = 2**63
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)


class BadRecord(DataError):
    """A DataError that knows its kind, see `Bad`."""

    def __init__(self, kind: str, reason: str) -> None:
        reason = printable(reason)
        super().__init__(kind, reason)  # both, so that it can be pickled between processes
        self.kind = kind

    def __str__(self) -> str:
        return self.args[1]


def printable(text: str) -> str:
    """A text that any terminal and file takes: what is no Unicode (names that are not UTF-8, half a pair) is escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def guarded(name: str, make: Callable[[], T]) -> T:
    """What `make` gives for the record `name`, a Record or an Example, with its texts and numbers checked.

    Raises:
      BadRecord: anything went wrong in it, but for interrupts, lack of memory, and too many open files.
      UserError: too many open files.
    """
    try:
        made = make()
        if dataclasses.is_dataclass(made):
            _check(made)
        return made
    except (BadRecord, MemoryError):
        raise
    except DataError as error:
        raise BadRecord(getattr(error, "kind", "unusable record"), str(error)) from error
    except UserError:
        raise
    except OSError as error:
        check_open_files(error)
        raise BadRecord("unreadable file", f"{name}: {error}; check the disk or mount, or download it again") from error
    except Exception as error:
        reason = f"{name}: cannot be read ({type(error).__name__}: {error}); correct the record or remove it"
        raise BadRecord("unreadable record", reason) from error


def check_open_files(error: BaseException) -> None:
    """Refuses to take "too many open files" for damage.

    Raises:
      UserError: that is what happened.
    """
    if getattr(error, "errno", None) in _OUT_OF_FILES or "too many open files" in str(error).lower():
        advice = "the limit of open files is too low for this run; raise it with `ulimit -n 4096`"
        raise UserError(f"{error}: {advice}") from error


Stamp = tuple[int, int]


def stamp(file: str | os.PathLike | int) -> Stamp:
    """Size and time of change of a file, given by its path or as an open one's number."""
    status = os.stat(file)
    return status.st_size, status.st_mtime_ns


def check_unchanged(file: str | os.PathLike | int, path: str | os.PathLike, known: Stamp) -> None:
    """Refuses a file that is no longer what was indexed when its source was opened: places in it mean something else.

    Raises:
      BadRecord: size or time differ.
    """
    if stamp(file) != known:
        reason = (
            f"{path}: has changed since the run opened it; leave data alone under a running job, and start it again"
        )
        raise BadRecord("changed file", reason)


def _check(made: Any) -> None:
    """Texts must be Unicode, numbers fit in 64 bits, and what proxies know must have its form.

    Raises:
      BadRecord: one of them is not so.
    """
    name = made.name
    _check_text(name, name, "name")
    for what in ("caption", "kind"):
        if (text := getattr(made, what)) is not None:
            _check_text(name, text, what)
    for turn in made.turns:
        _check_text(name, turn.text, "conversation")
    for what in ("classes", "segments"):
        _check_values(name, list(getattr(made, what, None) or ()), what)
    if made.extra:
        _check_values(name, made.extra, "extra")
        _check_known(name, made.extra)


def _check_text(name: str, text: Any, what: str) -> None:
    if not isinstance(text, str):
        raise BadRecord("bad text", f"{name}: its {what} is no text but {type(text).__name__}")
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = f"U+{ord(text[error.start]):04X}"
        advice = "rename the file" if what == "name" else "correct the text, or remove the record"
        reason = f"{name}: its {what} is not Unicode (a lone {code} at {error.start}); {advice}"
        raise BadRecord("bad text", reason) from error


def _check_values(name: str, value: Any, what: str) -> None:
    """Plain JSON values, however deep; a number in `extra` must not need more than 64 bits."""
    if isinstance(value, str):
        _check_text(name, value, what)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _check_text(name, key, f"{what}'s key")
            _check_values(name, inner, f"{what} '{key}'" if what == "extra" else what)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_values(name, inner, what)
    elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        bits = value.bit_length()
        raise BadRecord("bad number", f"{name}: {what} holds an integer of {bits} bits; 64 are the most; correct it")


def _check_known(name: str, extra: dict[str, Any]) -> None:
    """The keys of `extra` that proxies and tasks know; null is as if they were absent."""
    for key, (fits, form) in _KNOWN.items():
        if key not in extra:
            continue
        if extra[key] is None:
            del extra[key]
        elif not _safely(fits, extra[key]):
            given = printable(repr(extra[key]))[:80]
            raise BadRecord(f"bad {key}", f"{name}: '{key}' must be {form}, not {given}; correct it")


def _safely(fits: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(fits(value))
    except (TypeError, ValueError):
        return False


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)


_KNOWN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "boxes": (
        lambda v: isinstance(v, list | tuple) and all(len(box) == 4 and all(map(_number, box)) for box in v),
        "a list of [left, top, right, bottom] in pixels",
    ),
    "things": (lambda v: isinstance(v, list | tuple) and all(x in (0, 1) for x in v), "a list of true or false"),
    "class_names": (_texts, "a list of texts"),
    "captions": (_texts, "a list of texts"),
    "instructions": (
        lambda v: isinstance(v, list | tuple) and all(_texts(step) for step in v),
        "a list of lists of texts",
    ),
    "intrinsics": (lambda v: len(v) == 4 and all(map(_number, v)), "four numbers, fx, fy, cx, cy"),
    "expressions": (
        lambda v: all(len(pair) == 2 and isinstance(pair[0], str) for pair in v),
        "a list of [text, mask number or numbers]",
    ),
}
