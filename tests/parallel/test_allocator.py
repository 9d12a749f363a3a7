"""What a process frees it keeps: the kernel maps no page twice."""

import os
import platform
import subprocess
import sys

import pytest

from sgt_jax.parallel import allocator

CHILD = """
import ctypes, resource
from sgt_jax.parallel.allocator import keep_freed_memory

libc, size = ctypes.CDLL(None), 64 << 20
libc.malloc.restype = ctypes.c_void_p
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        held = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
        libc.memset(held, 1, ctypes.c_size_t(size))
        libc.free(held)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), keep_freed_memory(), faults(), faults())
"""


@pytest.fixture
def free(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told")
def test_pages_are_mapped_once(free):
    found = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    before, told, _, after = found.stdout.split()
    assert told == "True"
    assert int(before) >= 5 * (64 << 20) // (1 << 16)  # pages of 64 kB at most
    assert int(after) < int(before) // 50


def test_what_a_person_has_chosen_stays(free):
    free.setenv("MALLOC_ARENA_MAX", "2")
    assert not allocator.keep_freed_memory()


def test_another_c_library_is_left_alone(free):
    free.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()
