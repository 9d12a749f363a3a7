"""User-facing errors: one line on stderr instead of a traceback.

Any other exception is a fault of ours and keeps its traceback.
"""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable

AGAIN = "Download or copy the file again."


class UserError(ValueError):
    """An error that the user can correct. The message names the file, field or record and says what to do."""


class ConfigError(UserError):
    """A field of a config, or an option of a command, has a value that is not allowed."""


class DataError(UserError):
    """A bad record, file or field. The message names it and says what to do; the pipeline may count and skip it."""


class CheckpointError(UserError):
    """A checkpoint that cannot be used. The message names the file, says what is wrong and what to do."""

    def __init__(self, path: str | os.PathLike, why: str, advice: str = AGAIN):
        super().__init__(f"{os.fspath(path)}: {why} {advice}")
        self.path = os.fspath(path)


class PlanError(UserError):
    """The step cannot be planned; one line says why."""


class StartError(UserError, TimeoutError):
    """The processes of a run did not all come together."""


def nearest(word: str, known: Iterable[str]) -> str:
    """ "did you mean 'segmentation'?", or "" if nothing known is like the word."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{found[0]}'?" if found else ""


# Errors of the system that the user can mend: no room, no permission, a disk that fails.
_SYSTEM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE,
                     errno.ENFILE, errno.ESTALE})  # fmt: skip
# A name that a person gave leads to something else than a folder.
_PLACE = frozenset({errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP})


def one_line(error: BaseException) -> str:
    """What to print of an error that the user can correct, on one line; "" for a fault of ours, which keeps its traceback."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        where = error.filename or "a file of this run"
        return f"{where}: {error.strerror}; free some space or change permissions, and start again"
    if isinstance(error, OSError) and error.errno in _PLACE and error.filename:
        return f"{error.filename}: {error.strerror}; choose another place, or move away what is there"
    return ""


def guarded(work: Callable[[], int | None]) -> int:
    """Runs a whole command; its exit status, or 1 with one line on stderr where `one_line` knows the error.

    SGT_TRACEBACK=1 in the environment shows where an error came from.
    """
    try:
        found = int(work() or 0)
        sys.stdout.flush()  # a full disk behind it is an error of the command, too
        return found
    except (UserError, OSError) as error:
        words = one_line(error)
        if not words or os.environ.get("SGT_TRACEBACK"):
            raise
        print(f"error: {words}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # what waits to be printed cannot be: let Python not try again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def status(work: Callable[[], int | None], also: tuple[type[BaseException], ...] = ()) -> int:
    """Runs the work of a command and returns its exit status: 1 with one line on stderr after an error of the user's.

    Args:
      work: returns the status, or None for 0.
      also: further errors that are the user's in this command, such as OSError for a file that it names.
        SGT_TRACEBACK=1 in the environment shows where an error came from.
    """
    try:
        return work() or 0
    except (UserError, *also) as error:
        if os.environ.get("SGT_TRACEBACK"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
