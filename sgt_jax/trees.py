"""Trees of parameters: paths as text, nested dicts, and which part of them is trained."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from sgt_jax.errors import ConfigError


def path_name(path: tuple) -> str:
    """A tree path as "decoder/layers_0/und/q_proj/kernel"."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def trainable_mask(params: Any, freeze: Sequence[str]) -> Any:
    """True for every parameter whose path matches none of the patterns.

    Raises:
      ConfigError: a pattern matches nothing, so what it was meant to freeze would be trained silently.
    """
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    patterns = [re.compile(pattern) for pattern in freeze]
    for pattern in patterns:
        if not any(pattern.search(name) for name in names):
            raise ConfigError(f"freeze pattern '{pattern.pattern}' matches no parameter path (such as {names[0]})")
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not any(pattern.search(path_name(path)) for pattern in patterns), params
    )


def split_trainable(params: Mapping[str, Any], freeze: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two nested dicts without each other's leaves: (trainable, frozen)."""
    mask = trainable_mask(params, freeze)

    def cut(tree: Mapping[str, Any], keep: Mapping[str, Any], wanted: bool) -> dict[str, Any]:
        out = {}
        for name, child in tree.items():
            if isinstance(child, Mapping):
                if part := cut(child, keep[name], wanted):
                    out[name] = part
            elif keep[name] == wanted:
                out[name] = child
        return out

    return cut(params, mask, True), cut(params, mask, False)


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """One nested dict with the leaves of both; where both have one, the first's."""
    out = dict(second)
    for name, child in first.items():
        both = isinstance(child, Mapping) and isinstance(out.get(name), Mapping)
        out[name] = merge(child, out[name]) if both else child
    return out


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"a/b": x} as {"a": {"b": x}}."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree
