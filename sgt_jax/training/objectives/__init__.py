"""What a run minimises, by its name in `config.objective.name`: one module an objective, one signature.

A module holds `OBJECTIVE`. To add one, write the module and a line in `MODULES`.
"""

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
from ml_collections import ConfigDict

from sgt_jax.batch import PackedBatch
from sgt_jax.errors import ConfigError, hint
from sgt_jax.models.family import Layout, Model, Params

MODULES = {"autoencoder": "autoencoder", "sgt": "sgt"}

Metrics = dict[str, jax.Array]


class Loss(Protocol):
    """(loss, metrics) of one global batch."""

    def __call__(
        self, params: Params, batch: PackedBatch, key: jax.Array, model: Model,
        part: tuple[jax.Array, int] | None = None,
    ) -> tuple[jax.Array, Metrics]:  # fmt: skip
        """With `part=(index, count)` a micro-batch's share: shares of the loss and of scalar metrics add up."""


class Objective(NamedTuple):
    """An objective.

    Attributes:
      loss: as `Loss`, with `settings` (the config's section `objective`) by keyword.
      tokens: (host batch, lanes that the family counts) -> tokens, for the log.
      branch: the one branch of the parameter tree that there is, if the objective needs no more.
      layout: (canvases) -> a layout instead of the family's.
      accumulates: whether the loss can be computed in micro-batches.
      counted: whether the family's formulas of work hold for it.
    """

    loss: Callable[..., tuple[jax.Array, Metrics]]
    tokens: Callable[[PackedBatch, Sequence[str]], int]
    branch: str | None = None
    layout: Callable[[Sequence[tuple[int, int]]], Layout] | None = None
    accumulates: bool = True
    counted: bool = True

    def bound(self, settings: ConfigDict) -> Loss:
        """The loss with a config's settings."""
        return functools.partial(self.loss, settings=settings)


def of_config(config: ConfigDict) -> Objective:
    """The objective of a run.

    Raises:
      ConfigError: there is none of that name, or it does not fit the config.
    """
    name = config.objective.name
    if name not in MODULES:
        raise ConfigError(f"config.objective.name is '{name}'; {hint(name, sorted(MODULES), 'choose one of')}")
    objective: Objective = importlib.import_module(f"sgt_jax.training.objectives.{MODULES[name]}").OBJECTIVE
    if config.accumulate != 1 and not objective.accumulates:
        raise ConfigError(f"config.accumulate must be 1: objective '{name}' is not made for micro-batches")
    return objective
