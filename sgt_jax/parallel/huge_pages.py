"""Memory in pages of 2 MB: a command begins once more with glibc told to ask Linux for them. Imports no JAX.

XLA's CPU backend takes every buffer from malloc and frees it after use, and the kernel must find, clear and map the pages of
large ones again at every step. In pages of 2 MB that is much less work (docs/performance.md has the numbers). glibc reads its
settings when a program starts and never again, so the only way to give it one is to start the program again.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

OFF = "off"
SETTING = "glibc.malloc.hugetlb=1"
_SGT = "SGT_HUGE_PAGES"
_GLIBC = "GLIBC_TUNABLES"
_SINCE = (2, 35)  # the first glibc that knows the setting
_LINUX = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def begin_with_huge_pages() -> None:
    """Replaces this process by the same command with `SETTING`, or returns where that is no use or not wanted.

    Call it first of all in what `python -m` runs: what the process has done by then is done again. The process keeps its
    number, its folder and its open files. `SGT_HUGE_PAGES=off`, any GLIBC_TUNABLES of the user's, or a debugger, which would
    lose the process, leaves it as it is.
    """
    if sys.gettrace() or not of_use(os.environ):
        return
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {_GLIBC: SETTING})
    except OSError:
        pass  # the command works without, only slower


def state() -> str:
    """For people: whether this process has huge pages."""
    if SETTING in os.environ.get(_GLIBC, ""):
        return "asked for"
    try:
        given = "[always]" in _LINUX.read_text()
    except OSError:
        given = False
    return "given by Linux to all" if given else "none"


def of_use(environment: Mapping[str, str], linux: Path = _LINUX) -> bool:
    """Whether the setting would change something: this glibc knows it, and Linux gives such pages to those who ask for them.

    Args:
      environment: where SGT_HUGE_PAGES and GLIBC_TUNABLES are looked up.
      linux: the file that tells when Linux gives huge pages; "always" needs no asking, and with "never" asking is no use.
    """
    if environment.get(_SGT) == OFF or _GLIBC in environment or not sys.executable:
        return False
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        return (
            name == "glibc"
            and tuple(int(part) for part in version.split(".")[:2]) >= _SINCE
            and "[madvise]" in linux.read_text()
        )
    except (AttributeError, OSError, ValueError):  # no glibc, or no Linux
        return False
