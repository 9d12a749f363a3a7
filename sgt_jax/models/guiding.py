"""Guidance whose numbers are inputs of a compiled program: its kind decides which branches run, its numbers do not.

A guidance is a frozen dataclass of the family. Who moves a slider then needs no new program.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

_ON = 2.0  # any scale above 1: the branch runs
_SCALES = ("text_scale", "image_scale")


def kind(guidance: Any) -> Any:
    """The same guidance with every number replaced by one that stands for "on", "off" or the default."""
    defaults = type(guidance)()
    changes = {name: getattr(defaults, name) for name in _numbers(guidance)}
    changes |= {name: _ON if getattr(guidance, name) > 1 else 1.0 for name in _SCALES}
    return dataclasses.replace(guidance, **changes)


def numbers(guidance: Any) -> dict[str, float]:
    """The numbers that `kind` takes out."""
    return {name: float(getattr(guidance, name)) for name in _numbers(guidance)}


def with_numbers(kind: Any, values: Mapping[str, Any]) -> Any:
    """A guidance of this kind with these numbers, which may be traced, and so are not checked again."""
    out = copy.copy(kind)
    for name, value in values.items():
        object.__setattr__(out, name, value)
    return out


def _numbers(guidance: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(guidance) if isinstance(getattr(guidance, field.name), float | int)]
