"""When a run is measured, and how its measurements become scores: before and after, paired item by item."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from etils import epath

from sgt_jax.evaluation import evaluators as registry
from sgt_jax.evaluation.items import evaluated_steps, load_items, save_first_pictures, save_items
from sgt_jax.evaluation.result import Result
from sgt_jax.evaluation.statistics import Score
from sgt_jax.evaluation.subject import Params, Subject
from sgt_jax.parallel import progress


class Log(Protocol):
    """What a schedule tells a run's log."""

    def scalars(self, step: int, values: dict[str, float], kind: str = "train") -> None:
        """Named numbers of a step."""

    def pictures(
        self, step: int, name: str, rows: Sequence[Sequence[np.ndarray | None]], *, columns: Sequence[str] = (),
        captions: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """A grid of pictures uint8 [H, W, 3]."""


class Schedule:
    """Runs the evaluators of a config and keeps what they measured.

    Per-item results go to WORKDIR/evaluations/STEP_NAME.json, so that a resumed run still knows its step 0 and intervals
    can be computed later; means go to the log, pictures to WORKDIR/pictures.

    Attributes:
      results: {evaluator: Result} of the latest evaluation.
      seconds: spent on evaluations so far.
    """

    def __init__(
        self, evaluators: Mapping[str, Mapping[str, Any]], subject: Subject, workdir: epath.Path, log: Log, *,
        primary: bool = True,
    ) -> None:  # fmt: skip
        """
        Args:
          evaluators: {name: options with the "type"}: config.evaluators.
          subject: the model that is asked.
          workdir, log: of the run.
          primary: whether this process writes files; all processes evaluate.
        """
        self._options, self._subject, self._workdir, self._log = evaluators, subject, workdir, log
        self._primary = primary
        self._evaluators: dict[str, registry.Evaluator] = {}
        self.results: dict[str, Result] = {}
        self.seconds = 0.0

    def __call__(self, step: int, params: Params) -> None:
        """Evaluates the parameters of a step.

        Raises:
          ConfigError: there is no evaluator of that type.
          DataError: a source lacks what an evaluator needs.
        """
        started = time.time()
        values: dict[str, float] = {}
        for name, options in self._options.items():
            progress.begin(f"scoring {name}")
            if name not in self._evaluators:
                self._evaluators[name] = registry.by_name(options["type"], name)(self._subject, options)
            result = self.results[name] = self._evaluators[name](params)
            values.update({f"{name}/{key}": value for key, value in result.scores()})
            if result.rows:
                self._log.pictures(step, name, result.rows, columns=result.columns, captions=result.captions)
            if self._primary:
                save_first_pictures(self._workdir, step, name, result)
                save_items(self._workdir, step, name, result)
        self.seconds += time.time() - started
        self._log.scalars(step, dict(values, evaluation_seconds=time.time() - started), kind="eval")


class Beside(NamedTuple):
    """Another run whose last scores stand beside a run's own.

    Attributes:
      name: what tables call it.
      folder: its work directory; it was scored on the same items.
      made_by: of a stored run, the command that makes it; "": the folder is the run itself.
    """

    name: str
    folder: epath.Path
    made_by: str = ""


def collect_scores(
    workdir: epath.PathLike, evaluators: Mapping[str, Mapping[str, Any]], beside: Beside | None = None
) -> list[Score]:
    """The scores of a finished run: its last evaluation against its first and against another run's last, item by item.

    Args:
      workdir: of the run.
      evaluators: {name: options with the "type"}: config.evaluators.
      beside: the other run, if there is one.
    """
    steps = evaluated_steps(workdir)
    if not steps:
        return []
    scores: list[Score] = []
    for name, options in evaluators.items():
        after = load_items(workdir, steps[-1], name)
        before = load_items(workdir, steps[0], name) if len(steps) > 1 else None
        if after is None:
            continue
        evaluator = registry.by_name(options["type"], name)
        found = evaluator.scores(after, before)
        other = load_items(beside.folder, evaluated_steps(beside.folder)[-1], name) if beside else None
        if other is not None:
            pairs = zip(found, evaluator.scores(after, other), strict=True)
            found = [_with(mine, beside.name, theirs) for mine, theirs in pairs]
        if called := options.get("called"):
            found = [dataclasses.replace(score, name=called) for score in found]
        scores += found
    return scores


def _with(score: Score, name: str, against: Score) -> Score:
    """A score with another run beside it, from the same score computed with that run in the place of `before`."""
    return dataclasses.replace(score, beside_name=name, beside=against.before, over_beside=against.over_before)
