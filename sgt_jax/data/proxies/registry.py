"""Where generative proxies are listed: name -> level, function, options. See `sgt_jax.data.proxies`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.data.examples import DataError, Example, ProxyPair
from sgt_jax.data.templates import instruction

LEVELS = ("low", "mid", "high")
# Example, generator, options -> condition uint8 [H, W, 3], target uint8 [H', W', 3].
Make = Callable[[Example, np.random.Generator, dict[str, Any]], tuple[np.ndarray, np.ndarray]]


class Proxy(NamedTuple):
    """A registered proxy.

    Attributes:
      name: as in configs.
      level: "low", "mid" or "high", as in the paper's hierarchy.
      flat: the target consists of flat colours that a later resize should keep (nearest instead of bicubic).
      options: option names and their defaults.
      make: the function.
    """

    name: str
    level: str
    flat: bool
    options: dict[str, Any]
    make: Make


PROXIES: dict[str, Proxy] = {}


def register(name: str, *, level: str, flat: bool = False, **options: Any) -> Callable[[Make], Make]:
    """Decorator: adds a proxy; `options` are its options with their defaults."""
    if level not in LEVELS or name in PROXIES:
        raise ValueError(f"proxy {name!r}: level {level!r} is not one of {LEVELS}, or the name is taken")

    def add(make: Make) -> Make:
        PROXIES[name] = Proxy(name, level, flat, options, make)
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
        raise DataError(f"no proxy '{name}'; there are {', '.join(sorted(PROXIES))}")
    proxy = PROXIES[name]
    style = options.pop("style", "general")
    if unknown := sorted(set(options) - set(proxy.options)):
        raise DataError(f"proxy '{name}' has no option {unknown}; it has {', '.join(['style', *proxy.options])}")
    if example.image is None:
        raise lacks(example, name, "a picture")
    condition, target = proxy.make(example, rng, proxy.options | options)
    return ProxyPair(condition, instruction(name, rng, style), target)


def lacks(example: Example, proxy: str, what: str) -> DataError:
    """The error for an example that does not know what a proxy needs."""
    return DataError(f"{example.name}: proxy '{proxy}' needs {what}; use another source or another proxy for it")
