"""Where things are, and how a test starts a child process that can import the helpers of the tests."""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests" / "golden"


def helper(name: str, *arguments: object) -> list[str]:
    """The command that runs tests/support/NAME.py; start it with cwd=REPOSITORY."""
    return [sys.executable, "-m", f"tests.support.{name}", *map(str, arguments)]
