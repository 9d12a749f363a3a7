"""Where generative proxies are listed: name -> level, needs, function, options. See `sgt_jax.data.proxies`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.data.examples import Example, ProxyPair
from sgt_jax.data.text.templates import instruction
from sgt_jax.errors import DataError, hint, nearest

LEVELS = ("low", "mid", "high")


class Painted(NamedTuple):
    """What a proxy makes of an example.

    Attributes:
      condition: uint8 [H, W, 3], what the understanding encoder sees.
      target: uint8 [H', W', 3], what is to be painted.
      words: fills the slots of the wordings, such as {object}.
      flat: whether this target consists of flat colours; None means what the proxy was registered with.
    """

    condition: np.ndarray
    target: np.ndarray
    words: Mapping[str, str] = {}
    flat: bool | None = None


Make = Callable[[Example, np.random.Generator, dict[str, Any]], Painted]


class Proxy(NamedTuple):
    """A registered proxy.

    Attributes:
      name: as in configs.
      level: "low", "mid" or "high", as in the paper's hierarchy.
      needs: what an example must hold, in words, for lists and error messages.
      flat: the target consists of flat colours that a later resize should keep (nearest instead of bicubic).
      options: option names and their defaults.
      make: the function; the first line of its docstring says what the target is.
    """

    name: str
    level: str
    needs: str
    flat: bool
    options: dict[str, Any]
    make: Make


PROXIES: dict[str, Proxy] = {}


def register(
    name: str, *, level: str, needs: str = "a picture", flat: bool = False, **options: Any
) -> Callable[[Make], Make]:
    """Decorator: adds a proxy; `options` are its options with their defaults."""
    if level not in LEVELS or name in PROXIES:
        raise ValueError(f"proxy {name!r}: level {level!r} is not one of {LEVELS}, or the name is taken")

    def add(make: Make) -> Make:
        PROXIES[name] = Proxy(name, level, needs, flat, options, make)
        return make

    return add


def make_pair(name: str, example: Example, rng: np.random.Generator, **options: Any) -> ProxyPair:
    """Turns an example into what proxy `name` asks for.

    Args:
      name: a key of PROXIES.
      example: must hold what the proxy needs.
      rng: for the wording and whatever else is random.
      **options: of the proxy, and `style`, the style of the wordings ("general" or "plain").

    Raises:
      DataError: unknown proxy or option, or the example lacks what the proxy needs.
    """
    if name not in PROXIES:
        raise DataError(f"no proxy '{name}'; {hint(name, sorted(PROXIES))}")
    proxy = PROXIES[name]
    style = options.pop("style", "general")
    if unknown := sorted(set(options) - set(proxy.options)):
        raise DataError(f"proxy '{name}' has no option {unknown}; {hint(unknown[0], ['style', *proxy.options], 'it has')}")
    if example.image is None:
        raise lacks(example, name, "a picture")
    try:
        made = proxy.make(example, rng, proxy.options | options)
    except DataError as error:
        if example.name in str(error):
            raise
        raise DataError(f"{example.name}: proxy '{name}': {error}") from error
    words = instruction(name, rng, style).format_map(made.words)
    return ProxyPair(made.condition, words, made.target, proxy.flat if made.flat is None else made.flat)


def lacks(example: Example, proxy: str, what: str = "") -> DataError:
    """The error for an example that does not know what a proxy needs; `what` says it closer than the registry."""
    need = what or PROXIES[proxy].needs
    return DataError(f"{example.name}: proxy '{proxy}' needs {need}; use another source or another proxy for it")


def choice(proxy: str, options: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    """The value of an option that must be one of a few words.

    Raises:
      DataError: it is another.
    """
    if options[name] not in allowed:
        near = nearest(str(options[name]), allowed)
        must = f"must be one of {', '.join(allowed)}{'; ' if near else ''}{near}"
        raise DataError(f"proxy '{proxy}': {name}={options[name]!r} {must}")
    return options[name]
