"""What a person sees of an error that is theirs to mend: one line, and not a traceback."""

import os
import sys
from collections.abc import Callable


def status(work: Callable[[], int | None], errors: tuple[type[BaseException], ...]) -> int:
    """Does the work of a command; returns its exit status.

    Args:
      work: returns the status, or None for 0.
      errors: what is told in one line on stderr, with status 1. SGT_TRACEBACK=1 in the environment shows where.
    """
    try:
        return work() or 0
    except errors as error:
        if os.environ.get("SGT_TRACEBACK"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
