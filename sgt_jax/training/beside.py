"""The run whose scores stand beside a run's own: config.compare.

config.compare is "" (none), the work directory of a finished run, "package:NAME" (a stored run of the package: its settings
and scores, no weights), or a variant of the config file, which `sgt_jax.main` then trains first, in WORKDIR/VARIANT.
"""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from sgt_jax.assets import resource
from sgt_jax.data.stored.places import place
from sgt_jax.errors import ConfigError, beside
from sgt_jax.evaluation.items import evaluated_steps
from sgt_jax.evaluation.schedule import Beside
from sgt_jax.training import resuming

PACKAGE = "package:"
# What a stored run may have otherwise: it is another arm of the same experiment.
ARM = ("data.mixture", "data.budgets", "compare")


def find(config: ConfigDict, settings: Mapping[str, Any]) -> tuple[Beside | None, str]:
    """The run of config.compare, and why a stored one does not stand beside this run, "" if it does or none is asked for.

    A stored run is one of the config as it is shipped. Beside a run of other settings it is left out, and that is said.

    Args:
      settings: the config as `resuming.settings` writes it.

    Raises:
      ConfigError: config.compare is no run, or one that was not scored, or was scored on other items.
    """
    name = config.get("compare", "")
    if not name:
        return None, ""
    stored = name.startswith(PACKAGE)
    folder = epath.Path(resource(name)) if stored else place(name)
    path = folder / resuming.CONFIG
    if not path.exists():
        raise ConfigError(
            f"config.compare='{name}': holds no run ({resuming.CONFIG} is missing){'' if stored else beside(name)}"
        )
    other = json.loads(path.read_text())
    if not evaluated_steps(folder):
        raise ConfigError(f"config.compare='{name}': this run was not scored; let it come to its end first")
    found = resuming.differences(other, settings)
    if stored:
        apart = [field for field in found if not _of_an_arm(field) and not _measures_nothing(field)]
    else:
        apart = [field for field in found if _is_or_holds(field, _measured(config))]
    if not apart:
        return Beside(other["name"], folder), ""
    words = resuming.described(found, apart)
    if stored:
        return None, f"{name} does not stand beside this run, since its settings are others: {words}"
    raise ConfigError(f"config.compare='{name}': scored on other items ({words}); score both runs alike")


def _measured(config: ConfigDict) -> tuple[str, ...]:
    """The fields that say what is measured: the evaluators, and their sources."""
    names: set[str] = set()
    for options in config.evaluators.values():
        names |= {options.get("source"), options.get("train_source"), *(options.get("sources") or {}).values()}
    return ("evaluators", "evaluate_weights", *(f"data.sources.{name}" for name in sorted(filter(None, names))))


def _of_an_arm(field: str) -> bool:
    return _is_or_holds(field, ARM)


def _measures_nothing(field: str) -> bool:
    """Whether a field changes neither what is trained nor what is measured."""
    return resuming.may_change(field) and not _is_or_holds(field, ("evaluators", "evaluate_weights"))


def _is_or_holds(field: str, names: tuple[str, ...]) -> bool:
    return any(field == name or field.startswith(name + ".") for name in names)
