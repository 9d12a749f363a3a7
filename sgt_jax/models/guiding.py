"""Guidance whose numbers are inputs of a compiled program: its kind decides which branches run, its numbers do not.

A guidance is a frozen dataclass of the family. Who moves a slider then needs no new program. Its class may say more:

    WORDS    {field: its words}: which of several words stands there is an input, too
    PROMPTS  fields that say what a branch reads: no program depends on them
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

_ON = 2.0  # any scale above 1: the branch runs
_SCALES = ("text_scale", "image_scale")


def kind(guidance: Any) -> Any:
    """The same guidance with every number replaced by one that stands for "on", "off" or the default, and every such word."""
    defaults = type(guidance)()
    plain = (*_numbers(guidance), *_words(guidance), *getattr(guidance, "PROMPTS", ()))
    return spread(dataclasses.replace(guidance, **{name: getattr(defaults, name) for name in plain}), guidance)


def spread(guidance: Any, kind: Any) -> Any:
    """The same guidance with the branches of a kind."""
    return dataclasses.replace(guidance, **{name: _ON if getattr(kind, name) > 1 else 1.0 for name in _SCALES})


def wider(kind: Any, image: bool) -> Any:
    """The kind with the branch of text guidance, and with `image` that of image guidance, beside those that it has."""
    return dataclasses.replace(kind, text_scale=_ON, image_scale=_ON if image else kind.image_scale)


def covers(kind: Any, other: Any) -> bool:
    """Whether a kind has every branch of another: a branch that is not needed has a scale of 1."""
    same = dataclasses.replace(other, **{name: getattr(kind, name) for name in _SCALES}) == kind
    return same and all(getattr(kind, name) > 1 or getattr(other, name) <= 1 for name in _SCALES)


def numbers(guidance: Any) -> dict[str, float]:
    """The numbers that `kind` takes out; of a word its place among the words."""
    words = {name: float(known.index(getattr(guidance, name))) for name, known in _words(guidance).items()}
    return {name: float(getattr(guidance, name)) for name in _numbers(guidance)} | words


def with_numbers(kind: Any, values: Mapping[str, Any]) -> Any:
    """A guidance of this kind with these numbers, which may be traced, and so are not checked again."""
    out = copy.copy(kind)
    for name, value in values.items():
        object.__setattr__(out, name, value)
    return out


def _numbers(guidance: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(guidance) if isinstance(getattr(guidance, field.name), float | int)]


def _words(guidance: Any) -> Mapping[str, tuple[str, ...]]:
    return getattr(guidance, "WORDS", {})
