"""Memory of the CPU backend: kept by the process from step to step, not given back to the kernel after each."""

import ctypes
import os

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST = 1 << 30  # bytes: what is larger is mapped by itself and given back when it is freed
_CHOICES = ("MALLOC_", "GLIBC_TUNABLES")  # how a person tells glibc what to do


def keep_freed_memory() -> bool:
    """Makes glibc keep what is freed for the next request of this process; call it before work begins.

    XLA takes every buffer of a program on the CPU from malloc, and frees it after the step. By default glibc gives large
    buffers back at once, and the kernel clears and maps the same pages again for the next step: a fifth of the processor time
    of a nano step (docs/performance.md). The process then holds its peak until it ends.

    Returns:
      Whether glibc was told. It is not where there is no glibc, or where the environment has settings of malloc already.
    """
    if any(name.startswith(_CHOICES) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False  # another C library, or Windows
    # One arena: the others cannot grow beyond 64 MB, and map what is larger.
    told = [mallopt(_ARENA_MAX, 1), mallopt(_MMAP_THRESHOLD, _LARGEST), mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)]
    return all(told)
