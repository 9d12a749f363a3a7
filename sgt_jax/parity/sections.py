"""Which sections `parity` compares, by the family whose reference a folder was recorded from, and how it runs them."""

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Protocol

from sgt_jax.errors import DataError
from sgt_jax.parity.checks import Check

# A family's module holds SECTIONS, or of_folder(folder) where they differ from folder to folder, and open_folder(path) and
# recognises(path). Benchmarks are such a family (their folders were recorded from official scorers), and adapters, which
# PEFT wrote.
MODULES = {
    "bagel": "sgt_jax.parity.bagel.sections",
    "omnigen2": "sgt_jax.parity.omnigen2.sections",
    "benchmarks": "sgt_jax.parity.benchmarks.sections",
    "peft": "sgt_jax.parity.peft.sections",
}
ABSENT = "file absent"
# What a file that lacks arrays or keys, or holds others, can lead to.
_DAMAGED = (OSError, KeyError, IndexError, ValueError, TypeError, RuntimeError, ZeroDivisionError)


class Folder(Protocol):
    """A folder of recorded numbers."""

    def has(self, name: str) -> bool:
        """Whether it holds a file of that name."""


# Section -> (the files that it needs, its function).
Sections = Mapping[str, tuple[tuple[str, ...], Callable[[Folder], Iterator[Check]]]]


def family_sections(name: str) -> ModuleType:
    """The module of one family's sections."""
    return importlib.import_module(MODULES[name])


def of_folder(path: str | os.PathLike) -> ModuleType:
    """The module of the family that a folder was recorded from.

    Raises:
      DataError: no family knows it.
    """
    for name in MODULES:
        if family_sections(name).recognises(path):
            return family_sections(name)
    raise DataError(f"{os.fspath(path)}: was recorded from no family that we know ({', '.join(MODULES)})")


def known(family: ModuleType, folder: Folder) -> Sections:
    """The sections that a folder of a family can be asked for."""
    return family.of_folder(folder) if hasattr(family, "of_folder") else family.SECTIONS


def run(folder: Folder, sections: Sections, names: Iterable[str] | None = None) -> list[Check]:
    """All checks of some sections; a section whose files are absent gives one check that is neither right nor wrong."""
    checks: list[Check] = []
    for section in sections if names is None else names:
        needs, function = sections[section]
        absent = [name for name in needs if not folder.has(name)]
        if absent:
            checks.append(Check(section, ", ".join(absent), 0.0, 0.0, None, ABSENT))
            continue
        try:
            # One by one: what was compared before a file turns out to be damaged still counts.
            checks.extend(function(folder))
        except Exception as error:
            # flax is imported by then, if it raised this; before, it takes a second or two.
            if not isinstance(error, (*_DAMAGED, *_of_flax())):
                raise
            if os.environ.get("SGT_TRACEBACK"):
                raise
            why = f"stopped by {type(error).__name__}: {' '.join(str(error).split())[:200]} (see SGT_TRACEBACK=1)"
            checks.append(Check(section, "(the rest)", float("inf"), 0.0, False, why))
    return checks


def _of_flax() -> tuple[type[Exception], ...]:
    from flax.errors import FlaxError

    return (FlaxError,)
