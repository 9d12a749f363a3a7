"""How this process keeps memory that a program on the CPU has freed. Imports no JAX, which takes a second."""

import ctypes
import os
import sys
from pathlib import Path

# Names of mallopt(3) in glibc's malloc.h, and the values that we set.
_SETTINGS = (
    (-8, 1),  # M_ARENA_MAX: one heap for all threads; those of further threads hold no buffer of more than 64 MB
    (-4, 0),  # M_MMAP_MAX: large buffers come from the heap, too, and are found there again
    (-1, 512 << 20),  # M_TRIM_THRESHOLD: bytes at the heap's end that are kept
    (-2, 64 << 20),  # M_TOP_PAD: bytes by which it grows at least
)
_ACCELERATORS = ("nvidia[0-9]*", "accel[0-9]*", "vfio/[0-9]*", "kfd")


def keep_freed(devices: Path = Path("/dev")) -> bool:
    """Keeps memory that is freed for the next allocation, where programs run on the CPU. Call it before JAX starts.

    XLA's CPU programs allocate their temporaries anew at every call, and glibc gives large ones back to the system at once:
    a step of the nano model then faults 270 MB of pages in again, which takes a sixth of its time (docs/performance.md).
    No number depends on it. A machine with an accelerator keeps glibc's defaults, because the memory of its host is for
    weights and data. SGT_KEEP_FREED=off leaves the defaults everywhere.

    Args:
      devices: the folder in which the system lists devices.

    Returns:
      Whether it was set; False for an accelerator, another system or another C library.
    """
    if os.environ.get("SGT_KEEP_FREED") == "off":
        return False
    if not sys.platform.startswith("linux") or any(next(devices.glob(name), None) for name in _ACCELERATORS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    return all(mallopt(name, value) == 1 for name, value in _SETTINGS)
