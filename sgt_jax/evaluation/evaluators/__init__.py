"""Evaluators by name: each is one file with a class that asks a subject, and says how its results become scores.

To add one, write the file, here or in `evaluation/scenes/` if it needs the oracle of procedural scenes, and add a line to
`EVALUATORS`; every config, log and report can then use it. CONTRIBUTING.md has an example.
"""

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

from sgt_jax.errors import ConfigError, hint
from sgt_jax.evaluation.result import Items, Result, Title
from sgt_jax.evaluation.statistics import Score
from sgt_jax.evaluation.subject import Params, Subject

# Type in a config -> (module, class): imported when used, so that a run needs only its own evaluators' libraries.
EVALUATORS = {
    "answers": ("evaluators.answers", "Answers"),
    "benchmark": ("evaluators.benchmark", "Benchmark"),
    "drawings": ("scenes.drawings", "Drawings"),
    "edits": ("scenes.edits", "Edits"),
    "hallucination": ("scenes.pope", "Hallucination"),
    "loss": ("evaluators.held_out_loss", "HeldOutLoss"),
    "masks": ("evaluators.masks", "Masks"),
    "prompts": ("scenes.geneval", "Prompts"),
    "reconstructions": ("evaluators.reconstructions", "Reconstructions"),
    "tiles": ("evaluators.tiles", "Tiles"),
}


class Evaluator(Protocol):
    """The face of every evaluator: built once per run, called with each set of parameters to be measured.

    Attributes:
      TITLE: of its pictures in a report.
    """

    TITLE: Title

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        """Reads its items from the subject's sources; `options` are its part of config.evaluators.

        Raises:
          DataError: a source is absent, empty or does not hold what this evaluator needs.
        """

    def __call__(self, params: Params) -> Result:
        """Measures these parameters: the same items in the same order every time, so that results can be paired."""

    @staticmethod
    def scores(after: Items, before: Items | None) -> list[Score]:
        """Scores from the items of a `Result`, and of an earlier one of the same run (None: there is none)."""


def by_name(kind: str, name: str = "") -> type[Evaluator]:
    """The evaluator of a type in a config.

    Args:
      kind: a key of EVALUATORS.
      name: what the config calls it, for the error.

    Raises:
      ConfigError: there is no such type.
    """
    if kind not in EVALUATORS:
        raise ConfigError(f"evaluator '{name or kind}': unknown type '{kind}'; {hint(kind, EVALUATORS)}")
    module, evaluator = EVALUATORS[kind]
    return getattr(importlib.import_module(f"sgt_jax.evaluation.{module}"), evaluator)
