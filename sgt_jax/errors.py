"""User-facing errors: one line on stderr instead of a traceback.

Any other exception is a fault of ours and keeps its traceback.
"""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable

MOST_LISTED = 12  # names that an error lists beside the one that was probably meant
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
    found = difflib.get_close_matches(word, list(known), n=5, cutoff=0.6)
    best = min(((_slips(word, other), number) for number, other in enumerate(found)), default=(0, -1))
    most = 1 if len(word) < 4 else len(word) // 2
    return f"did you mean '{found[best[1]]}'?" if found and best[0] <= most else ""


def _slips(word: str, other: str) -> int:
    """How many slips lead from one word to another: a letter too few, too many or wrong, or two that changed places."""
    above = row = list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        before, above, row = above, row, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == wanted:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
    return row[-1]


def hint(word: object, known: Iterable[str], have: str = "there are") -> str:
    """What was probably meant, and what there is: "did you mean 'depth'? There are ..."; a long list if nothing is near."""
    names = [str(name) for name in known]
    near, every = nearest(str(word), names), f"{have} {', '.join(names) or 'none'}"
    if not near:
        return every
    begun = every if have.startswith("config.") else every[0].upper() + every[1:]
    return near if len(names) > MOST_LISTED else f"{near} {begun}"


def beside(path: str | os.PathLike) -> str:
    """ "; did you mean 'photos/cup.jpg'?", of what lies where a path that is not there would; "" if nothing is like it."""
    text = os.fspath(path)
    folder, name = os.path.split(text.rstrip("/") or text)
    # The first part that is missing is the one that may be misspelt.
    while folder and not os.path.isdir(folder):
        folder, name = os.path.split(folder)
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return ""
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean '{os.path.join(folder, found[0])}'?" if found and found[0] != name else ""


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
    except BrokenPipeError:
        return unread()
    except (UserError, OSError) as error:
        words = one_line(error)
        if not words or os.environ.get("SGT_TRACEBACK"):
            raise
        print(f"error: {words}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            unread()
        return 1


def unread() -> int:
    """How a command ends whose output nobody takes any more, as behind `| head`: without a word, with status 1."""
    # What waits to be printed cannot be: let Python not try again at its end.
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
        found = work() or 0
        sys.stdout.flush()
        return found
    except BrokenPipeError:
        return unread()
    except (UserError, *also) as error:
        if os.environ.get("SGT_TRACEBACK"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
