"""Training adapters instead of the model: what is frozen, what a checkpoint holds, and which base it belongs to.

Config fields read here, of `config.adapter`:

  rank         r of every adapter; 0 trains the model itself
  alpha        products B A are multiplied with alpha / r; 0 means twice the rank
  targets      "gen" (the layers that paint), "und" (those that read), "both", or a regular expression for whole names of
               modules in the published weights
  dropout      chance that an adapter does not see a number of its input, while training
  rslora       alpha / sqrt(r) instead of alpha / r
  base_dtype   of the frozen weights: "float32", "bfloat16", or "" for that of config.model.dtype; "int8" keeps the
               projections of the layers that repeat as integers, and all else in that of config.model.dtype

With a rank above 0 everything but the adapters is frozen, whatever config.freeze says, and gradients, optimizer state, EMA
and checkpoints are those of the adapters alone.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from sgt_jax import trees
from sgt_jax.errors import CheckpointError
from sgt_jax.models import adapting
from sgt_jax.models.adapting import Adaptation
from sgt_jax.training.state import TrainState

DATA = "adapter"  # where a checkpoint says, beside the state of the data, what it holds and of which base
_DROPOUT = 0x10CA  # tells the draws of dropout from those of the model


def rank(config: Any) -> int:
    """The rank of the adapters that a run trains; 0 for none. Configs from before there were any have no such field."""
    values = getattr(config, "adapter", None)
    return values["rank"] if values else 0


def freeze(config: Any) -> tuple[str, ...]:
    """The patterns of what is not trained: config.freeze, or, with adapters, everything else."""
    return adapting.FREEZE if rank(config) else tuple(config.freeze)


def for_training(params: Any, adaptation: Adaptation | None, key: jax.Array, part: Any = None) -> Any:
    """The parameters as one forward of training has them: with what dropout is drawn from, if there is any.

    Micro-batches draw apart, so with dropout config.accumulate changes which numbers are dropped.
    """
    if adaptation is None or not adaptation.settings.dropout:
        return params
    key = jax.random.fold_in(key, np.uint32(_DROPOUT))
    return adaptation.dropped(params, key if part is None else jax.random.fold_in(key, part[0]))


def kept(state: TrainState, config: Any) -> dict[str, Any]:
    """What a checkpoint holds of a state (of arrays or shapes): all of it, or, with adapters, nothing of the base."""
    held = state._asdict()
    if rank(config):
        held["params"] = trees.split_trainable(state.params, freeze(config))[0]
    return held


def identity(adaptation: Adaptation | None, params: Any) -> dict[str, Any]:
    """What a checkpoint of adapters says about itself: {} without adapters. All processes call it."""
    if adaptation is None:
        return {}
    settings = adaptation.settings
    return {"rank": settings.rank, "targets": settings.targets, "base": adapting.checksum(params, adaptation.dtype)}


def check_kind(said: Mapping[str, Any], adaptation: Adaptation | None, where: epath.Path) -> None:
    """Compares what a checkpoint says with what the config asks for, before anything is read.

    Raises:
      CheckpointError: one trains adapters and the other the model, or adapters of another rank or of other modules.
    """
    mine = None if adaptation is None else adaptation.settings
    if not said and mine is None:
        return
    if not said or mine is None:
        holds, asked = ("the whole model", "adapters") if mine else ("adapters", "the whole model (adapter.rank is 0)")
        raise CheckpointError(where, f"holds {holds}, and config trains {asked}.", "Give another --workdir.")
    for name, value in (("rank", mine.rank), ("targets", mine.targets)):
        if said.get(name) != value:
            why = f"holds adapters whose {name} is {said.get(name)}, and config.adapter.{name} is {value}."
            raise CheckpointError(where, why, "Give the run's own value, or another --workdir.")


def check_base(said: Mapping[str, Any], mine: Mapping[str, Any], where: epath.Path, base: str) -> None:
    """Raises a CheckpointError if the base that was loaded is not the one that a checkpoint's adapters were trained on."""
    if said.get("base") != mine.get("base"):
        why = f"holds adapters of a base with fingerprint {said.get('base')}, and {base} has {mine.get('base')}."
        raise CheckpointError(
            where, why, "Give the base that the run began with, with config.init_from and base_dtype."
        )
