"""What a study's raw files say, once they passed the gates: `python -m sgt_jax.study --config=... --results=... --decide`."""

import os

from ml_collections import ConfigDict

from sgt_jax.errors import ConfigError
from sgt_jax.study import conditional, figures, gates, registered, replaced, tables


def markdown(study: ConfigDict, results: str | os.PathLike, figure: str | os.PathLike = "") -> str:
    """Gates and registered contrasts for a document, from the raw files alone.

    Args:
      figure: a file that gets a picture of the registered contrasts; "" draws none.

    Raises:
      DataError: a file is not of the settings of its arm, a run fails a gate, or a gate's arms have no run yet.
      ConfigError: no folder of results was named, or there is nothing to decide or to draw in the study.
    """
    if not results:
        raise ConfigError("--decide reads raw files: name their folder with --results=DIR")
    found = tables.read_results(results)
    gates.check_settings(found, study)
    facts = found.facts
    if "gates" in facts:
        gates.check_controls(found)
    parts = []
    if facts.get("gates", {}).get("roles"):
        parts.append(gates.markdown(found))
    if "registered" in facts:
        parts.append(registered.markdown(found))
    if figure:
        _draw(figure, found, study)
    if "conditional" in facts:
        parts.append(conditional.markdown(found, study))
    if "replaced" in facts:
        parts.append(replaced.markdown(found))
    if not parts:
        raise ConfigError(f"study '{study.name}' has nothing to decide: no `registered`, no `replaced`, no gates of kinds")
    return "\n\n".join(parts)


def _draw(path: str | os.PathLike, found: tables.Results, study: ConfigDict) -> None:
    plan = study.get("registered")
    if plan is None:
        raise ConfigError(f"study '{study.name}' has no `registered` contrasts to draw: leave --figure out")
    title = f"Answers right, {' and '.join(plan.kinds)}: paired differences"
    figures.contrasts_picture(path, registered.contrasts(found), title, plan.margin, plan.get("equal", {}))
