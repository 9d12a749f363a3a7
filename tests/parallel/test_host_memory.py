"""Freed memory: kept where programs run on the CPU, given back where the machine has an accelerator."""

import subprocess
import sys

import pytest

from sgt_jax.parallel.host_memory import keep_freed

FAULTS = """
import ctypes, resource, sys
if sys.argv[1] == "kept":
    from sgt_jax.parallel.host_memory import keep_freed
    assert keep_freed()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def use():
    buffer = libc.malloc(100 << 20)
    ctypes.memset(buffer, 1, 100 << 20)
    libc.free(buffer)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_a_buffer_of_100_mb_is_not_faulted_in_again():
    assert _faults("given back") > 10 * (_faults("kept") + 100)


@pytest.mark.parametrize("name", ["nvidia0", "accel1", "vfio/0", "kfd"])
def test_a_machine_with_an_accelerator_keeps_its_defaults(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert not keep_freed(tmp_path)


def test_it_can_be_left_off(tmp_path, monkeypatch):
    monkeypatch.setenv("SGT_KEEP_FREED", "off")
    assert not keep_freed(tmp_path)
