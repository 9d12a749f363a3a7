"""The run whose scores stand beside a run's own: config.compare.

config.compare is "" (none), the work directory of a finished run, "package:NAME" (a run stored in the package: its settings
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

STORED = "package:"
MADE_BY = "made_by.txt"  # of a stored run: the command
# What a stored run may have otherwise, beside what changes no number of training: it is the arm that does not paint.
ARM = ("data.mixture.proxy", "data.budgets")


def find(config: ConfigDict, settings: Mapping[str, Any]) -> tuple[Beside | None, str]:
    """The run of config.compare, or None and why a stored one is left out; (None, ""): none is asked for.

    A stored run is one of the config as it ships. Beside a run that learns otherwise, or is scored otherwise, it says
    nothing and is left out.

    Args:
      settings: the config as `resuming.settings` writes it.

    Raises:
      ConfigError: config.compare is no run, or one that was not scored, or was scored on other items.
    """
    name = config.get("compare", "")
    if not name:
        return None, ""
    stored = name.startswith(STORED)
    folder = epath.Path(resource(name)) if stored else place(name)
    path = folder / resuming.CONFIG
    if not path.exists():
        hint = "" if stored else beside(name)
        raise ConfigError(f"config.compare='{name}': holds no run ({resuming.CONFIG} is missing){hint}")
    other = json.loads(path.read_text())
    if not evaluated_steps(folder):
        raise ConfigError(f"config.compare='{name}': this run was not scored; let it come to its end first")
    found = resuming.differences(other, settings)
    otherwise = [field for field in found if resuming.is_or_holds(field, _measured(config))]
    if stored:
        otherwise += [f for f in found if not resuming.is_or_holds(f, ARM) and not resuming.may_change(f)]
    if not otherwise:
        return Beside(other["name"], folder, (folder / MADE_BY).read_text().strip() if stored else ""), ""
    words = resuming.described(found, sorted(set(otherwise)))
    if stored:
        return None, f"{other['name']} does not stand beside this run: it is stored for the config as it ships, not {words}"
    raise ConfigError(f"config.compare='{name}': scored on other items ({words}); score both runs alike")


def _measured(config: ConfigDict) -> tuple[str, ...]:
    """The fields that say what is measured: the evaluators, and their sources."""
    names: set[str] = set()
    for options in config.evaluators.values():
        names |= {options.get("source"), options.get("train_source"), *(options.get("sources") or {}).values()}
    return ("evaluators", "evaluate_weights", *(f"data.sources.{name}" for name in sorted(filter(None, names))))
