"""A command begins once more with huge pages, where that is of use, and only there."""

import os
import subprocess
import sys

import pytest

from sgt_jax.parallel import huge_pages

LINUX = "always [madvise] never\n"


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """A Linux that gives huge pages to those who ask, with a glibc that can ask."""
    monkeypatch.setattr(huge_pages.os, "confstr", lambda name: "glibc 2.36", raising=False)
    file = tmp_path / "enabled"
    file.write_text(LINUX)
    return file


def test_of_use_where_glibc_can_ask_and_linux_gives(linux):
    assert huge_pages.of_use({}, linux)


@pytest.mark.parametrize("environment", [{"SGT_HUGE_PAGES": "off"}, {"GLIBC_TUNABLES": "glibc.malloc.check=0"}])
def test_a_users_word_goes_first(linux, environment):
    assert not huge_pages.of_use(environment, linux)


@pytest.mark.parametrize("given", ["[always] madvise never\n", "always madvise [never]\n"])
def test_of_no_use_where_linux_needs_no_asking_or_gives_none(linux, given):
    linux.write_text(given)
    assert not huge_pages.of_use({}, linux)


@pytest.mark.parametrize("library", ["glibc 2.31", "glibc 2.4", "musl 1.2", "", None])
def test_of_no_use_with_another_library(linux, monkeypatch, library):
    monkeypatch.setattr(huge_pages.os, "confstr", lambda name: library, raising=False)
    assert not huge_pages.of_use({}, linux)


def test_of_no_use_without_such_a_file_or_such_a_name(linux, monkeypatch, tmp_path):
    assert not huge_pages.of_use({}, tmp_path / "none")
    monkeypatch.delattr(huge_pages.os, "confstr", raising=False)
    assert not huge_pages.of_use({}, linux)


@pytest.mark.parametrize(
    ("setting", "given", "said"),
    [
        (huge_pages.SETTING, LINUX, "asked for"),
        ("", LINUX, "none"),
        ("", "[always] madvise never\n", "given by Linux to all"),
    ],
)
def test_what_the_doctor_says(linux, monkeypatch, setting, given, said):
    linux.write_text(given)
    monkeypatch.setattr(huge_pages, "_LINUX", linux)
    monkeypatch.setenv("GLIBC_TUNABLES", setting)
    assert huge_pages.state() == said


COMMAND = """
import os, sys
from sgt_jax.parallel import huge_pages
huge_pages.of_use = lambda environment: "GLIBC_TUNABLES" not in environment
print(os.getpid(), flush=True)
huge_pages.begin_with_huge_pages()
print(os.getpid(), os.environ["GLIBC_TUNABLES"], sys.flags.utf8_mode, sys.argv[1:], sys.stdin.read())
"""


def test_the_command_begins_once_more_as_it_was_given():
    """Same process, same interpreter's options, arguments and input, and the setting in the environment."""
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-X", "utf8", "-c", COMMAND, "a b", "--c=d"]
    ended = subprocess.run(command, env=environment, input="read", capture_output=True, text=True, check=True)
    first, again, last = ended.stdout.splitlines()
    assert first == again
    assert last == f"{first} {huge_pages.SETTING} 1 ['a b', '--c=d'] read"


def test_a_command_that_cannot_begin_again_goes_on(monkeypatch):
    asked = []

    def refuse(*given):
        asked.append(given)
        raise OSError("no more processes")

    monkeypatch.setattr(huge_pages, "of_use", lambda environment: True)
    monkeypatch.setattr(huge_pages.os, "execve", refuse)
    huge_pages.begin_with_huge_pages()
    assert len(asked) == 1


def test_a_debugger_keeps_its_process(monkeypatch):
    monkeypatch.setattr(huge_pages, "of_use", lambda environment: True)
    monkeypatch.setattr(huge_pages.sys, "gettrace", lambda: print)
    monkeypatch.setattr(huge_pages.os, "execve", lambda *given: pytest.fail("it began again"))
    huge_pages.begin_with_huge_pages()
