"""What a study's raw files say, once they passed the gates: `python -m sgt_jax.study --config=... --results=... --decide`."""

import os

from ml_collections import ConfigDict

from sgt_jax.errors import ConfigError
from sgt_jax.study import conditional, figures, gates, registered, replaced, tables

# What a registered contrast holds equal, for its picture.
WORDS = {"first": "equal answers", "strange": "masks of another scene", "compute": "equal compute"}


def markdown(study: ConfigDict, results: str | os.PathLike, figure: str | os.PathLike = "") -> str:
    """Gates and registered contrasts for a document, from the raw files alone.

    Args:
      figure: a file that gets a picture of the registered contrasts; "" draws none.

    Raises:
      DataError: a file is not of the settings of its arm, a run fails a gate, or a gate's arms have no run yet.
      ConfigError: no folder of results was named, or there is nothing to decide in the study.
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
            _draw(figure, found)
    if "conditional" in facts:
        parts.append(conditional.markdown(found, study))
    if "replaced" in facts:
        parts.append(replaced.markdown(found))
    if not parts:
        raise ConfigError(f"study '{study.name}' has nothing to decide: no `registered`, no `replaced`, no gates of kinds")
    return "\n\n".join(parts)


def _draw(path: str | os.PathLike, found: tables.Results) -> None:
    plan = found.facts["registered"]
    title = f"Answers right, {' and '.join(plan['kinds'])}: paired differences"
    figures.contrasts_picture(path, registered.contrasts(found), title, plan["margin"], WORDS)
