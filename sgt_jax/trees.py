"""Trees of parameters: paths as text, nested dicts, and which part of them is trained."""

import functools
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import traverse_util

from sgt_jax.errors import ConfigError

Tree = dict[str, Any]  # nested; its leaves are arrays


def path_name(path: tuple) -> str:
    """A tree path as "decoder/layers_0/und/q_proj/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def trainable_mask(params: Tree, freeze: Sequence[str]) -> Tree:
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


def split_trainable(params: Tree, freeze: Sequence[str]) -> tuple[Tree, Tree]:
    """Two nested dicts without each other's leaves: (trainable, frozen)."""
    trained = flat(trainable_mask(params, freeze))
    leaves = flat(params)
    return tuple(nested({path: x for path, x in leaves.items() if trained[path] == which}) for which in (True, False))


def merge(first: Tree, second: Tree) -> Tree:
    """One nested dict with the leaves of both; where both have one, the first's."""
    return nested(flat(second) | flat(first))


def flat(tree: Tree) -> dict[str, Any]:
    """{"a": {"b": x}} as {"a/b": x}; empty dicts are left out."""
    return traverse_util.flatten_dict(tree, sep="/")


def nested(leaves: Mapping[str, Any]) -> Tree:
    """{"a/b": x} as {"a": {"b": x}}, the inverse of `flat`."""
    return traverse_util.unflatten_dict(leaves, sep="/")


def at(tree: Tree, path: str) -> Any:
    """What is at "a/b" of a nested dict.

    Raises:
      KeyError: nothing is.
    """
    return functools.reduce(operator.getitem, path.split("/"), tree)
