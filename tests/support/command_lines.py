"""Command lines as they stand in documents and docstrings, and whether they would start: nothing is run.

A command is checked as far as one can without running it: the program and the module exist, the parser of the command takes
the options, the config loads and takes the overrides, files of this repository that are named exist.
"""

import argparse
import ast
import configparser
import contextlib
import functools
import importlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sgt_jax.__main__ import COMMANDS
from sgt_jax.__main__ import DOORS as NAMED_DOORS
from sgt_jax.commands import configured
from sgt_jax.parallel import hardware
from sgt_jax.training import config_file
from tests.support.paths import REPOSITORY

# Doors whose flags are absl's: what `--help` prints is what there is.
DOORS = ("sgt_jax.main", "sgt_jax.study")
# Programs of others: whoever reads the page has them, and there is nothing of ours to check.
FOREIGN = ("curl", "export", "git", "mkdir", "source")
# Files that the reader of a page writes, and a shipped one that stands in for them here.
WRITTEN_BY_THE_READER = {
    "configs/mine.py": "configs/nano.py",
    "configs/study/silhouette.py": "configs/study/proxies.py",
    "configs/study/halves.py": "configs/study/headline.py",
    "mine.py": "configs/nano_sgt.py",
}
PYTEST_OPTIONS = ("-m", "-k", "-n", "--dist", "--durations", "-x", "-q")
RUFF_OPTIONS = ("check", "format", "--check", "--fix", ".")


class CommandError(ValueError):
    """A command line that would not start, and why."""


class Command(NamedTuple):
    """One command with the line of the file on which its block starts."""

    file: str
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {shlex.join(self.words)}"


# -- Finding them ------------------------------------------------------------------------------------------------------


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """(line number, language, content) of every fenced block of a Markdown page."""
    for line, language, _, content in marked_blocks(text):
        yield line, language, content


def marked_blocks(text: str) -> Iterator[tuple[int, str, str, str]]:
    """(line number, language, mark, content) of every fenced block; "```sh hardware" is only parsed, never run."""
    for match in re.finditer(r"^```(\w*)(?: (\w+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start()) + 1, match[1], match[2] or "", match[3]


def split(text: str) -> list[tuple[str, ...]]:
    """The commands of a shell text: comments dropped, lines joined at a backslash, cut at `&&`, `;` and `|`."""
    found: list[tuple[str, ...]] = []
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|")
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if word not in ("&&", ";", "|"):
                words.append(word)
            elif words:
                found.append(tuple(words))
                words = []
    return found


def in_page(path: Path) -> list[Command]:
    """The commands of all `sh` blocks of a page."""
    name = str(path.relative_to(REPOSITORY))
    shells = [(line, content) for line, language, content in blocks(path.read_text()) if language == "sh"]
    return [Command(name, line, words) for line, content in shells for words in split(content)]


def outside_blocks(text: str) -> list[str]:
    """Commands with arguments that stand in a page, but in no `sh` block, where nobody checks or copies them."""
    wrong = []
    for _, language, content in blocks(text):
        if language != "sh":
            wrong += [line for line in content.splitlines() if re.match(r"(\$ )?(python|pip|pytest) ", line)]
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    wrong += re.findall(r"^ {4,}(?:python -m|pip install|pytest) .*", rest, re.MULTILINE)
    for span in re.findall(r"`((?:python|pip|pytest) [^`]*)`", rest):
        if not _bare(span.split()):
            wrong.append(span)
    return wrong


def _bare(words: Sequence[str]) -> bool:
    """Whether a command is only called by its name, `python -m sgt_jax NAME` or `python -m MODULE`, and exists."""
    if words[:2] != ["python", "-m"]:
        return False
    if words[2] == "sgt_jax" and len(words) <= 4:
        return len(words) == 3 or words[3] in COMMANDS
    return len(words) == 3 and (words[2] in DOORS or _exists(words[2]))


def in_docstring(path: Path) -> list[Command]:
    """The commands that stand alone on indented lines of a module's docstring, "Command:" in front or not.

    In a module of sgt_jax/commands the examples may begin with the name of the command.
    """
    source = path.read_text()
    name = str(path.relative_to(REPOSITORY))
    own = {command for command, (module, _) in COMMANDS.items() if path == REPOSITORY / f"sgt_jax/commands/{module}.py"}
    if not own and "python " not in source:
        return []  # parsing all modules takes a second
    text = ast.get_docstring(ast.parse(source), clean=False) or ""
    found = []
    for line in text.replace("\\\n", " ").splitlines()[1:]:
        line = re.sub(r"^Command: +", "    ", line)
        first = line.split()[:1]
        if line.startswith("    ") and first == ["python"]:
            found += split(line)
        elif line.startswith("    ") and not line.startswith("     ") and own & set(first):
            found += [("python", "-m", "sgt_jax", *words) for words in split(line)]
    return [Command(name, 1, words) for words in found]


# -- Checking them -----------------------------------------------------------------------------------------------------


def check(words: Sequence[str]) -> None:
    """Raises CommandError, in one line, if the command would not start. Paths are relative to the repository."""
    words = list(words)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)  # a variable for this command
    program, *rest = words or [""]
    if program in FOREIGN:
        return
    if program not in _PROGRAMS:
        raise CommandError(f"'{program}' is no program that these documents use")
    _PROGRAMS[program](rest)


def _python(words: list[str]) -> None:
    if words[:1] != ["-m"]:
        raise CommandError("call modules, `python -m ...`, so that it does not matter where one stands")
    module, rest = words[1], words[2:]
    if module in ("pip", "pytest"):
        _PROGRAMS[module](rest)
    elif module in DOORS:
        _door(module, rest)
    elif module == "sgt_jax":
        if rest[:1] and rest[0] in NAMED_DOORS:
            name, rest = rest[0], rest[1:]
            launcher = f".{rest.pop(0)}" if name == "launch" and rest else ""
            _python(["-m", NAMED_DOORS[name][0] + launcher, *rest])
            return
        if rest == ["--version"]:
            return
        if rest[:1] and rest[0] not in COMMANDS:
            raise CommandError(f"no command '{rest[0]}'")
        if rest:
            _command(importlib.import_module(f"sgt_jax.commands.{COMMANDS[rest[0]][0]}").parser(), rest[1:])
    elif not _exists(module):
        raise CommandError(f"no module {module}")
    elif module.startswith("sgt_jax."):
        _command(importlib.import_module(module).parser(), rest)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _command(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """A command of ours: its own options, its config with overrides, and the training behind a launcher's `--`."""
    words, train = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    about_config = [word for word in words if word.startswith("--config")]
    with _refusals():
        if "--config" in parser.format_usage():
            options = parser.parse_intermixed_args(words)  # of `plan`, whose overrides are FIELD=VALUE
            hardware.parse_topology(options.topology)
            changes = [f"--config.{override}" for override in options.overrides]
            configured.parse(argparse.ArgumentParser(), [f"--config={options.config}", *changes])
        elif about_config:
            options, config = configured.parse(parser, [_existing(word) for word in words])
            if parser.prog.endswith(" validate") and (unknown := set(options.source or ()) - set(config.data.sources)):
                raise CommandError(f"the config has no source {', '.join(sorted(unknown))}")
        else:
            parser.parse_intermixed_args(words)
    if train:
        _door("sgt_jax.main", train)


RUN_NOTHING = (("sgt_jax.study", "--dry-run"), ("sgt_jax.study", "--decide"))


def _door(module: str, words: list[str]) -> None:
    """Training or a study: flags that `--help` shows, and the config with its overrides."""
    own = [word for word in words if not word.startswith("--config")]
    for word in own:
        name, equals, _ = (config_file.TWO_WORDS.get(word) or word).removeprefix("--").partition("=")
        known = door_flags(module)
        if not word.startswith("--") or name not in known or not (equals or known[name] == "switch"):
            raise CommandError(
                f"{module} has no flag {word}; write --NAME=VALUE, NAME one of {', '.join(sorted(known))}"
            )
    if not any(word.startswith("--workdir=") or (module, word) in RUN_NOTHING for word in own):
        raise CommandError(f"{module} needs --workdir")
    with _refusals():
        configured.parse(argparse.ArgumentParser(prog=module), [_existing(word) for word in words if word not in own])


@functools.cache
def door_flags(module: str) -> dict[str, str]:
    """Name -> "switch" or "value" of all flags that `python -m MODULE --help` shows."""
    shown = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout
    return {
        name: "switch" if no else "value" for no, name in re.findall(r"^ +--(\[no\])?([\w-]+)", shown, re.MULTILINE)
    }


def _existing(word: str) -> str:
    """--config=FILE, with a shipped file for one that the reader has yet to write."""
    for theirs, ours in WRITTEN_BY_THE_READER.items():
        word = word.replace(theirs, ours)
    return word


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What a parser prints before it exits, as a CommandError."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            yield
    except SystemExit as stop:
        if stop.code:
            raise CommandError((told.getvalue().strip() or str(stop.code)).splitlines()[-1]) from None
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise CommandError(str(error)) from None


def _pytest(words: list[str]) -> None:
    markers = {line.split(":")[0].strip() for line in _setup()["tool:pytest"]["markers"].strip().splitlines()}
    rest = iter(words)
    for word in rest:
        if word.startswith("-"):
            if word.split("=")[0] not in PYTEST_OPTIONS:
                raise CommandError(f"pytest {word} is not used in these documents")
            value = next(rest) if word in ("-m", "-k", "-n", "--dist") else ""
            if word == "-m" and (unknown := set(re.findall(r"\w+", value)) - {"or", "and", "not"} - markers):
                raise CommandError(f"no marker {', '.join(sorted(unknown))}")
        elif not (REPOSITORY / word.split("::")[0]).exists():
            raise CommandError(f"no tests at {word}")


def _pip(words: list[str]) -> None:
    if words[:1] != ["install"]:
        raise CommandError("pip only installs here")
    for word in words[1:]:
        match = re.fullmatch(r"(?:-e|(?:\.|sgt_jax)(?:\[(\w+)\])?)", word)
        if not match:
            raise CommandError(f"pip install {word} is not this package")
        if match[1] and match[1] not in _setup()["options.extras_require"]:
            raise CommandError(f"no extra [{match[1]}]")


def _ruff(words: list[str]) -> None:
    if unknown := set(words) - set(RUFF_OPTIONS):
        raise CommandError(f"ruff {' '.join(sorted(unknown))} is not used in these documents")


HF = "huggingface_hub.cli.hf"  # the hub's client, which the tokenizers bring


def _hf(words: list[str]) -> None:
    """A command of the hub's client, by its own help."""
    known = hf_options(words[0])
    for word in words[1:]:
        if word.startswith("--") and word.split("=")[0] not in known:
            raise CommandError(f"hf {words[0]} has no option {word}; it has {', '.join(sorted(known))}")
    if words[0] == "download" and not re.fullmatch(r"[\w.-]+/[\w.-]+", words[1]):
        raise CommandError(f"hf download {words[1]} is no OWNER/NAME")


@functools.cache
def hf_options(command: str) -> frozenset[str]:
    """The options that `hf COMMAND --help` shows."""
    call = [sys.executable, "-m", HF, command, "--help"]
    done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"})
    if done.returncode:
        raise CommandError(f"hf has no command {command}")
    return frozenset(re.findall(r"(?<![\w-])--[a-z][\w-]*", done.stdout))


def _cd(words: list[str]) -> None:
    if words[0].startswith("/tmp/"):
        return  # what a command before it made
    if not (REPOSITORY / words[0]).is_dir():
        raise CommandError(f"no folder {words[0]}")


@functools.cache
def _setup() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(REPOSITORY / "setup.cfg")
    return found


_PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "python": _python, "sgt": lambda words: _python(["-m", "sgt_jax", *words]), "pytest": _pytest, "pip": _pip, "ruff": _ruff,
    "cd": _cd, "hf": _hf, ".ci/run": lambda words: None, ".ci/site": lambda words: None, "mkdocs": lambda words: None,
}  # fmt: skip
