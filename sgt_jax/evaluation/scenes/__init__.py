"""Evaluators that only procedural scenes allow, since their worlds are known exactly and their pictures can be parsed."""

from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.errors import DataError
from sgt_jax.evaluation.subject import Subject


def scenes_of(subject: Subject, name: str) -> Scenes:
    """A subject's source of procedural scenes.

    Raises:
      DataError: there is none of that name, or its examples come without the scenes behind them.
    """
    source = subject.source(name)
    if not hasattr(source, "scene"):
        raise DataError(f"source '{name}' has no scene descriptions: this evaluator is for procedural scenes")
    return source
