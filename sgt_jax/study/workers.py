"""Several workers at one study: which of them works on a run, and how much time is left."""

import contextlib
import fcntl
import time
from collections.abc import Iterator, Sequence

from etils import epath

from sgt_jax.data.stored.atomic import is_remote


@contextlib.contextmanager
def claimed(path: epath.PathLike) -> Iterator[bool]:
    """Whether this process may work on the run of this lock file: one at a time may.

    The system frees the lock of a process that dies.
    """
    path = epath.Path(path)
    if is_remote(path):  # cloud storage has no locks; one worker at a time is up to the user there
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class Pace:
    """How much time is left. It goes by what is done, by whomever, as workers finish runs for one another.

    Arguments:
      paths: of the records of all runs that are wanted; a run is done when its record is there.
    """

    def __init__(self, paths: Sequence[epath.Path]) -> None:
        self._paths = paths
        self._started, self._done_before = time.time(), self._done()

    def left(self) -> str:
        """The end of a sentence, ", about N min left"; empty as long as no run was finished."""
        done = self._done()
        if done == self._done_before:
            return ""
        seconds_a_run = (time.time() - self._started) / (done - self._done_before)
        return f", about {seconds_a_run * (len(self._paths) - done) / 60:.0f} min left"

    def _done(self) -> int:
        return sum(path.exists() for path in self._paths)
