"""Memory of the host: in pages of 2 MB, and kept for the next step. Imports no JAX.

XLA's CPU backend takes every buffer from malloc and frees it after use. glibc gives large ones back to the kernel at once,
which must find, clear and map the same pages again at every step. In pages of 2 MB that is much less work, and none at all
for memory that the process keeps (docs/performance.md has the numbers).
"""

import contextlib
import ctypes
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
_KEEP = "SGT_KEEP_MEMORY"
# From how many bytes memory is not kept: (the environment's name for it, mallopt's parameter (malloc.h), bytes).
_THRESHOLDS = (("MALLOC_MMAP_THRESHOLD_", -3, 1 << 30), ("MALLOC_TRIM_THRESHOLD_", -1, (1 << 31) - 1))


def begin_with_huge_pages() -> None:
    """Replaces this process by the same command with `SETTING`, or returns where that is no use or not wanted.

    glibc reads its settings when a program starts and never again, so the only way to give it one is to start the program
    again. Call this first of all in what `python -m` runs: what the process has done by then is done again. The process
    keeps its number, its folder and its open files. `SGT_HUGE_PAGES=off`, any GLIBC_TUNABLES of the user's, or a debugger,
    which would lose the process, leaves it as it is.
    """
    if sys.gettrace() or not of_use(os.environ):
        return
    with contextlib.suppress(OSError):  # the command works without, only slower
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {_GLIBC: SETTING})


def keep_freed() -> bool:
    """Lets this process keep what it frees: buffers below 1 GiB, and up to 2 GiB at the end of its memory. True if it does.

    glibc keeps large buffers of the main thread only. `SGT_KEEP_MEMORY=off` or the user's own thresholds for malloc leave
    everything as it is, and so does another C library.
    """
    theirs = any(name in os.environ for name, _, _ in _THRESHOLDS) or "_threshold" in os.environ.get(_GLIBC, "")
    if theirs or os.environ.get(_KEEP) == OFF:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    return all([mallopt(parameter, size) for _, parameter, size in _THRESHOLDS])


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
