"""The parser of every command: a mistake is one line with what was probably meant, and --help names every default."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from sgt_jax.errors import ConfigError, nearest

_NO_DEFAULT = (None, False, "", argparse.SUPPRESS)


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` with errors of one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter} | options)

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:  # type: ignore[override]
        """As argparse has it; an option whose help says nothing of its default gets it."""
        action = super().add_argument(*names, **options)
        plain = action.default not in _NO_DEFAULT and action.default != [] and not isinstance(action.default, bool)
        if names[0].startswith("-") and plain and "default" not in (action.help or ""):
            action.help = f"{action.help or ''} (default: %(default)s)".strip()
        return action

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As argparse has it; a misspelt option is found before one that is missing."""
        self._check_names(sys.argv[1:] if args is None else args)
        return super().parse_args(args, namespace)

    def parse_intermixed_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As `parse_args`."""
        self._check_names(sys.argv[1:] if args is None else args)
        return super().parse_intermixed_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Leaves with status 2 and one line."""
        found = re.search(r"invalid choice: '?([^' ]*)'? \(choose from (.*)\)", message)
        near = nearest(found[1], re.split(r"'?, '?", found[2].strip("'"))) if found else ""
        if message.startswith("the following arguments are required"):
            near = f"{self.prog} --help explains them"
        self.exit(2, f"error: {' '.join(message.split())}{'; ' if near else ''}{near}\n")

    def _check_names(self, arguments: Sequence[str]) -> None:
        known = list(self._option_string_actions)
        for argument in arguments:
            name = argument.partition("=")[0]
            if argument == "--":
                return
            if name.startswith("--") and not any(option.startswith(name) for option in known):
                self.error(f"no option {name}; {nearest(name, known) or f'{self.prog} --help lists them'}")


def size_of(text: str | None) -> tuple[int, int] | None:
    """ "WxH" -> (height, width)."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise ConfigError(f"--size {text}: write it as WIDTHxHEIGHT, such as 1024x768")
    return int(sides[1]), int(sides[0])
