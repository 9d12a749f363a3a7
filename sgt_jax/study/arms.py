"""Arms and seeds of a study: the config of every run, and a fingerprint that says whether two runs are the same."""

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from sgt_jax.assets import resource
from sgt_jax.errors import ConfigError, hint
from sgt_jax.training.added_later import ADDED_LATER as _ADDED_LATER
from sgt_jax.training.added_later import drop_neutral

# Fields that may change between two calls: they change no number.
_NO_EFFECT_ON_RESULTS = (
    "platform",
    "cpu_devices",
    "compilation_cache",
    "sampling",
    "log_every",
    "profile",
    "report",
    "compare",
    "checkpoint",
    "name",
    "evaluate_every",
    "resume",
)

_BEGINNING = 2**22  # bytes of each file of weights that a fingerprint reads


class Run(NamedTuple):
    """One arm with one seed."""

    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}_{self.seed}"


def arm_names(study: ConfigDict) -> list[str]:
    """The arms of reference, the last one first, then the others by name (a ConfigDict keeps no order).

    Raises:
      ConfigError: config.references or config.favourite names an arm that is not there.
    """
    first = list(reversed(study.references))
    if unknown := [arm for arm in (*first, study.favourite) if arm not in study.arms]:
        raise ConfigError(
            f"config.references or config.favourite name {unknown}; config.arms has {', '.join(study.arms)}"
        )
    return [*first, *(arm for arm in sorted(study.arms) if arm not in first)]


def runs(study: ConfigDict) -> list[Run]:
    """All runs of a study, seed by seed, so that a study that is under way compares all arms as soon as it can."""
    every = []
    # Arms that others start from come first.
    order = sorted(arm_names(study), key=lambda arm: bool(study.arms[arm].get("after", "")))
    for number, seed in enumerate(study.seeds):
        for arm in order:
            # An arm without training is the same for every seed: it runs once.
            if number == 0 or study.arms[arm].get("total_steps", study.base.total_steps):
                every.append(Run(arm, int(seed)))
    return every


def run_config(study: ConfigDict, run: Run) -> ConfigDict:
    """The experiment of one run.

    Raises:
      ConfigError: what the arm changes is not in the base config, or is of another type.
    """
    config = ConfigDict(copy.deepcopy(study.base.to_dict()))
    config.lock()
    changes = study.arms[run.arm].to_dict()
    new = changes.pop("new", {})
    after = changes.pop("after", "")
    _check_fields(run.arm, config, changes)
    try:
        config.update(changes)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"arm '{run.arm}' does not fit config.base: {error}") from error
    with (
        config.unlocked()
    ):  # fields that the base leaves to their defaults: in a dict apart, so that a slip is an error
        config.update(new)
        if after:
            config.after = fingerprint(run_config(study, stage_of(study, run)))
    config.name = f"{study.name} {run.arm}, seed {run.seed}"
    config.seed = run.seed
    config.data.seed = run.seed
    return config


def _check_fields(arm: str, base: ConfigDict, changes: Mapping[str, Any], path: str = "") -> None:
    """Raises a ConfigError that names the first field of an arm's changes that the base config does not have."""
    for name, value in changes.items():
        if name not in base:
            raise ConfigError(
                f"arm '{arm}' does not fit config.base: it changes config.base.{path}{name}, which is not there; "
                f"{hint(name, base, 'there are')}; a field that the base leaves out goes into the arm's `new=dict(...)`"
            )
        if isinstance(value, Mapping) and isinstance(base[name], ConfigDict):
            _check_fields(arm, base[name], value, f"{path}{name}.")


def stage_of(study: ConfigDict, run: Run) -> Run | None:
    """The run whose last weights this one starts from: of the arm that config.arms.ARM.after names, with the same seed.

    Raises:
      ConfigError: there is no such arm, or it starts from another arm itself.
    """
    after = study.arms[run.arm].get("after", "")
    if after and (after not in study.arms or study.arms[after].get("after", "")):
        raise ConfigError(
            f"config.arms.{run.arm}.after is '{after}', which must be an arm of the study that starts where config.base does"
        )
    return Run(after, run.seed) if after else None


def fingerprint(config: ConfigDict) -> str:
    """16 hexadecimal digits that change with whatever changes a run's numbers: its config or the weights it starts from."""
    fields = json.loads(config.to_json_best_effort())
    for name in _NO_EFFECT_ON_RESULTS:
        fields.pop(name, None)
    drop_neutral(fields, _ADDED_LATER)
    fields["starts_from"] = _weights_ids(config.init_from) if config.init_from else []
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def _weights_ids(folder: str) -> list[str]:
    """What tells the weights of a published folder from others: one text a file, in the reverse order of their names."""
    root = epath.Path(resource(folder))
    # In the folder itself, and in folders of sub-models.
    paths = [path for pattern in ("*.safetensors", "*/*.safetensors") for path in root.glob(pattern)]
    # Reversed, as recorded runs have it: ema.safetensors before ae.safetensors.
    return [_file_id(path) for path in sorted(paths, key=os.fspath, reverse=True)]


def _file_id(path: epath.Path) -> str:
    """Differs for files of other lengths or beginnings (header, first tensors), which tells one training from another."""
    with path.open("rb") as file:
        return f"{path.stat().length} {hashlib.sha256(file.read(_BEGINNING)).hexdigest()}"
