"""A command begins once more with huge pages, where that is of use, and only there; freed memory is kept."""

import os
import subprocess
import sys

import pytest

from sgt_jax.parallel import distributed, host_memory

LINUX = "always [madvise] never\n"


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """A Linux that gives huge pages to those who ask, with a glibc that can ask."""
    monkeypatch.setattr(host_memory.os, "confstr", lambda name: "glibc 2.36", raising=False)
    file = tmp_path / "enabled"
    file.write_text(LINUX)
    return file


def test_of_use_where_glibc_can_ask_and_linux_gives(linux):
    assert host_memory.of_use({}, linux)


@pytest.mark.parametrize("environment", [{"SGT_HUGE_PAGES": "off"}, {"GLIBC_TUNABLES": "glibc.malloc.check=0"}])
def test_a_users_word_goes_first(linux, environment):
    assert not host_memory.of_use(environment, linux)


@pytest.mark.parametrize("given", ["[always] madvise never\n", "always madvise [never]\n"])
def test_of_no_use_where_linux_needs_no_asking_or_gives_none(linux, given):
    linux.write_text(given)
    assert not host_memory.of_use({}, linux)


@pytest.mark.parametrize("library", ["glibc 2.31", "glibc 2.4", "musl 1.2", "", None])
def test_of_no_use_with_another_library(linux, monkeypatch, library):
    monkeypatch.setattr(host_memory.os, "confstr", lambda name: library, raising=False)
    assert not host_memory.of_use({}, linux)


def test_of_no_use_without_such_a_file_or_such_a_name(linux, monkeypatch, tmp_path):
    assert not host_memory.of_use({}, tmp_path / "none")
    monkeypatch.delattr(host_memory.os, "confstr", raising=False)
    assert not host_memory.of_use({}, linux)


@pytest.mark.parametrize(
    ("setting", "given", "said"),
    [
        (host_memory.SETTING, LINUX, "asked for"),
        ("", LINUX, "none"),
        ("", "[always] madvise never\n", "given by Linux to all"),
    ],
)
def test_what_the_doctor_says(linux, monkeypatch, setting, given, said):
    linux.write_text(given)
    monkeypatch.setattr(host_memory, "_LINUX", linux)
    monkeypatch.setenv("GLIBC_TUNABLES", setting)
    assert host_memory.state() == said


COMMAND = """
import os, sys
from sgt_jax.parallel import host_memory
host_memory.of_use = lambda environment: "GLIBC_TUNABLES" not in environment
print(os.getpid(), flush=True)
host_memory.begin_with_huge_pages()
print(os.getpid(), os.environ["GLIBC_TUNABLES"], sys.flags.utf8_mode, sys.argv[1:], sys.stdin.read())
"""


def test_the_command_begins_once_more_as_it_was_given():
    """Same process, same interpreter's options, arguments and input, and the setting in the environment."""
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-X", "utf8", "-c", COMMAND, "a b", "--c=d"]
    ended = subprocess.run(command, env=environment, input="read", capture_output=True, text=True, check=True)
    first, again, last = ended.stdout.splitlines()
    assert first == again
    assert last == f"{first} {host_memory.SETTING} 1 ['a b', '--c=d'] read"


def test_a_command_that_cannot_begin_again_goes_on(monkeypatch):
    asked = []

    def refuse(*given):
        asked.append(given)
        raise OSError("no more processes")

    monkeypatch.setattr(host_memory, "of_use", lambda environment: True)
    monkeypatch.setattr(host_memory.os, "execve", refuse)
    host_memory.begin_with_huge_pages()
    assert len(asked) == 1


def test_a_debugger_keeps_its_process(monkeypatch):
    monkeypatch.setattr(host_memory, "of_use", lambda environment: True)
    monkeypatch.setattr(host_memory.sys, "gettrace", lambda: print)
    monkeypatch.setattr(host_memory.os, "execve", lambda *given: pytest.fail("it began again"))
    host_memory.begin_with_huge_pages()


PROGRAM = """
import os
from sgt_jax.parallel import host_memory
import numpy as np
print(host_memory.keep_freed())
pages = lambda: int(open("/proc/self/statm").read().split()[1])
for turn in range(2):
    before = pages()
    held = np.ones(8 << 20)  # 64 MB, more than malloc would keep
    del held
    print((pages() - before) * os.sysconf("SC_PAGE_SIZE") >> 20)
"""


def run_program(**environment):
    """(whether memory is kept, the first and the second growth in MB) of a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GLIBC_", "MALLOC_", "SGT_"))}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=clean | environment, capture_output=True, text=True, check=True
    )
    kept, first, second = ended.stdout.split()
    return kept == "True", int(first), int(second)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
def test_freed_memory_is_kept_and_used_again():
    kept, first, second = run_program()
    if not kept:
        pytest.skip("needs glibc")
    assert first > 40 and second < 4


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
@pytest.mark.parametrize(
    "theirs",
    [
        {"SGT_KEEP_MEMORY": "off"},
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"},
    ],
)
def test_a_user_who_gives_memory_back_goes_first(theirs):
    kept, first, second = run_program(**theirs)
    assert not kept and first < 4 and second < 4


def test_another_c_library_keeps_what_it_does(monkeypatch):
    for name in ("SGT_KEEP_MEMORY", "GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: object())
    assert not host_memory.keep_freed()


@pytest.mark.parametrize(
    ("platform", "devices", "here"),
    [("cpu", 0, True), ("cpu", 1, True), ("cpu", 2, False), ("tpu", 0, False), ("", 1, False)],
)
def test_one_cpu_device_computes_in_the_thread_that_keeps_memory(monkeypatch, platform, devices, here):
    told = {}
    monkeypatch.setattr(distributed.jax.config, "update", told.__setitem__)
    monkeypatch.setattr(host_memory, "keep_freed", lambda: True)
    monkeypatch.setenv("PJRT_NPROC", "4")
    distributed.prepare_platform(platform, devices)
    assert told.get("jax_cpu_enable_async_dispatch", True) is not here


def test_where_memory_is_not_kept_jax_computes_as_it_likes(monkeypatch):
    told = {}
    monkeypatch.setattr(distributed.jax.config, "update", told.__setitem__)
    monkeypatch.setattr(host_memory, "keep_freed", lambda: False)
    distributed.prepare_platform("cpu", 0)
    assert "jax_cpu_enable_async_dispatch" not in told


def test_several_processes_wait_as_jax_has_it(monkeypatch):
    told, joined = {}, []
    monkeypatch.setattr(distributed.jax.config, "update", told.__setitem__)
    monkeypatch.setattr(distributed.jax.distributed, "initialize", lambda *where, **options: joined.append(where))
    monkeypatch.setattr(distributed, "_leave_at_once_after_errors", lambda: None)
    distributed.start(distributed.Settings(coordinator="localhost:1234", processes=2, process=0))
    assert joined == [("localhost:1234", 2, 0)] and told == {"jax_cpu_enable_async_dispatch": True}
