"""The run whose scores stand beside a run's own: config.compare.

config.compare is "" (none), the work directory of a finished run, or a variant of the config file, which `sgt_jax.main` then
trains first, in WORKDIR/VARIANT.
"""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from sgt_jax.data.stored.places import place
from sgt_jax.errors import ConfigError, beside
from sgt_jax.evaluation.items import evaluated_steps
from sgt_jax.evaluation.schedule import Beside
from sgt_jax.training import resuming


def find(config: ConfigDict, settings: Mapping[str, Any]) -> Beside | None:
    """The run of config.compare; None: none is asked for.

    Args:
      settings: the config as `resuming.settings` writes it.

    Raises:
      ConfigError: config.compare is no run, or one that was not scored, or was scored on other items.
    """
    name = config.get("compare", "")
    if not name:
        return None
    folder = place(name)
    path = folder / resuming.CONFIG
    if not path.exists():
        raise ConfigError(f"config.compare='{name}': holds no run ({resuming.CONFIG} is missing){beside(name)}")
    other = json.loads(path.read_text())
    if not evaluated_steps(folder):
        raise ConfigError(f"config.compare='{name}': this run was not scored; let it come to its end first")
    found = resuming.differences(other, settings)
    if apart := [field for field in found if resuming.is_or_holds(field, _measured(config))]:
        words = resuming.described(found, apart)
        raise ConfigError(f"config.compare='{name}': scored on other items ({words}); score both runs alike")
    return Beside(other["name"], folder)


def _measured(config: ConfigDict) -> tuple[str, ...]:
    """The fields that say what is measured: the evaluators, and their sources."""
    names: set[str] = set()
    for options in config.evaluators.values():
        names |= {options.get("source"), options.get("train_source"), *(options.get("sources") or {}).values()}
    return ("evaluators", "evaluate_weights", *(f"data.sources.{name}" for name in sorted(filter(None, names))))
