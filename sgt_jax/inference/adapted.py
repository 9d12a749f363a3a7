"""What a run that trained adapters has to say: its adapters as modules, and the base that they belong to.

The checkpoints of such a run hold adapters alone, so the base is loaded again from where the run took it, and compared with
the fingerprint that the checkpoint holds.
"""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from sgt_jax import trees
from sgt_jax.assets import resource
from sgt_jax.checkpoints import runs
from sgt_jax.checkpoints.adapters import Low
from sgt_jax.checkpoints.stored import StoredWeights
from sgt_jax.errors import CheckpointError
from sgt_jax.models import adapting, int8
from sgt_jax.models import family as families
from sgt_jax.models.adapting import Adaptation
from sgt_jax.models.family import Family, ModelConfig, Params


def trains_adapters(settings: Mapping[str, Any]) -> bool:
    """Whether a run's config.json says that it trained adapters."""
    return bool(settings.get("adapter", {}).get("rank"))


class Adapters(NamedTuple):
    """The adapters of a run.

    Attributes:
      adaptation: which they are.
      modules: {name: adapter}.
      step: of the checkpoint.
    """

    adaptation: Adaptation
    modules: Mapping[str, Low]
    step: int


def of_run(workdir: epath.PathLike, settings: Mapping[str, Any], weights: str, step: int | None = None) -> Adapters:
    """The adapters in a checkpoint of a run, the newest by default; `settings` is its config.json.

    Raises:
      CheckpointError: there is no such checkpoint.
    """
    _, _, adaptation = _parts(settings)
    stored = StoredWeights(workdir, weights, step)
    lows = adaptation.lows(lambda path, layer: stored(path).read(layer, np.float32))
    return Adapters(adaptation, lows, stored.step)


def params_of_run(
    workdir: epath.PathLike, settings: Mapping[str, Any], weights: str, dtype: Any = None, step: int | None = None
) -> tuple[Params, int]:
    """(parameters with the run's adapters added, step); `dtype` None keeps that of the base's files.

    Raises:
      CheckpointError: there is no such checkpoint; its base is gone, or is not the one that the run began with.
    """
    family, config, adaptation = _parts(settings)
    where = epath.Path(workdir) / "checkpoints"
    trained, step = runs.restore_params(workdir, weights, step)
    base = _base(settings, family, config)
    if adaptation.quantised:  # the adapters were trained on what the integers say
        base = adaptation.cast(base)
    found, said = adapting.checksum(base, adaptation.dtype), _said(where / str(step))
    if found != said:
        why = f"holds adapters of a base with fingerprint {said}, and {_where(settings)} has {found}."
        raise CheckpointError(where / str(step), why, "Put the base that the run began with back to that place.")
    base = int8.floating(base, adaptation.dtype)
    base = base if dtype is None else adapting.cast(base, dtype)
    leaves = trees.flat(base) | jax.tree.map(jax.numpy.asarray, trees.flat(trained)) | adaptation.scales()
    return adapting.folded(trees.nested(leaves)), step


def _parts(settings: Mapping[str, Any]) -> tuple[Family, ModelConfig, Adaptation]:
    family = families.of_config(settings)
    config = family.config(settings["model"])
    found = adapting.adaptation(settings["adapter"], family, config)
    if found is None:
        raise ValueError("the run trained no adapters")
    return family, config, found


def _said(checkpoint: epath.Path) -> str | None:
    """The fingerprint of the base in a checkpoint."""
    try:
        return json.loads((checkpoint / "data" / "metadata").read_text())["adapter"]["base"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(checkpoint, "does not say which base its adapters are of.", "Use another step.") from None


def _where(settings: Mapping[str, Any]) -> str:
    return settings.get("init_from") or f"the base that seed {settings['seed']} makes"


def _base(settings: Mapping[str, Any], family: Family, config: ModelConfig) -> Params:
    """The parameters that a run began with, in the dtype of their files."""
    if folder := settings.get("init_from"):
        if not os.path.isdir(resource(folder)):
            why = "is gone, and the run's checkpoints hold adapters alone."
            raise CheckpointError(folder, why, "Put the base back to that place, which config.json names as init_from.")
        base = resource(settings["init_base"]) if settings.get("init_base") else None
        strip = settings.get("init_strip_prefix", "")
        return family.load(resource(folder), config, base=base, training=True, strip_prefix=strip).params
    params = jax.jit(family.model(config).init)(jax.random.key(settings["seed"]))
    if file := settings.get("vae_from"):
        params = dict(params, vae=jax.tree.map(jax.numpy.asarray, family.autoencoder.load(resource(file), config)))
    return params
