"""When a run is measured, and how its measurements become scores: before and after, paired item by item."""

import time
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from sgt_jax.errors import ConfigError
from sgt_jax.evaluation.evaluators.answers import Answers, _answer_scores
from sgt_jax.evaluation.evaluators.held_out_loss import HeldOutLoss, _loss_scores
from sgt_jax.evaluation.evaluators.masks import Masks, _mask_scores
from sgt_jax.evaluation.evaluators.reconstructions import Reconstructions
from sgt_jax.evaluation.items import evaluated_steps, load_items, save_items
from sgt_jax.evaluation.result import Result, by_kind
from sgt_jax.evaluation.scenes.evaluators import (
    Drawings,
    Edits,
    Hallucination,
    Prompts,
    _drawing_scores,
    _edit_scores,
    _hallucination_scores,
)
from sgt_jax.evaluation.statistics import Score
from sgt_jax.training.state import TrainState

EVALUATORS = {
    "answers": Answers,
    "drawings": Drawings,
    "edits": Edits,
    "hallucination": Hallucination,
    "loss": HeldOutLoss,
    "masks": Masks,
    "prompts": Prompts,
    "reconstructions": Reconstructions,
}


class Schedule:
    """Runs the evaluators of a config and keeps what they found.

    Per-item results go to WORKDIR/evaluations/STEP_NAME.json, so that a resumed run still knows its step 0 and intervals
    can be computed later; means go to the log, pictures to WORKDIR/pictures.
    """

    def __init__(self, config: Any, experiment: Any, workdir: epath.Path, log: Any) -> None:
        self._config, self._experiment, self._workdir, self._log = config, experiment, workdir, log
        self._evaluators: dict[str, Any] = {}
        self.results: dict[str, Result] = {}
        self.seconds = 0.0

    def __call__(self, step: int, state: TrainState) -> None:
        """Evaluates the configured weights of a state."""
        started = time.time()
        # At step 0 raw and averaged weights are the same.
        params = state.weights(self._config.evaluate_weights if step else "params")
        values: dict[str, float] = {}
        for name, options in self._config.evaluators.to_dict().items():
            if name not in self._evaluators:
                kind = options["type"]
                if kind not in EVALUATORS:
                    raise ConfigError(f"evaluator '{name}': unknown type '{kind}'; there are {', '.join(EVALUATORS)}")
                self._evaluators[name] = EVALUATORS[kind](self._experiment, options)
            result = self.results[name] = self._evaluators[name](params)
            values.update({f"{name}/{key}": value for key, value in result.scores()})
            if result.rows:
                self._log.pictures(step, name, result.rows, columns=result.columns, captions=result.captions)
            if jax.process_index() == 0:
                save_items(self._workdir, step, name, result)
        self.seconds += time.time() - started
        self._log.scalars(step, dict(values, evaluation_seconds=time.time() - started), kind="eval")


def collect_scores(workdir: epath.PathLike, evaluators: Mapping[str, Mapping[str, Any]]) -> list[Score]:
    """The scores of a finished run: its last evaluation against its first, item by item, with intervals."""
    steps = evaluated_steps(workdir)
    if not steps:
        return []
    scores: list[Score] = []
    for name, options in evaluators.items():
        after = load_items(workdir, steps[-1], name)
        before = load_items(workdir, steps[0], name) if len(steps) > 1 else None
        if after is not None:
            scores += _BY_TYPE[options["type"]](after, before)
    return scores


_BY_TYPE = {
    "answers": _answer_scores,
    "drawings": _drawing_scores,
    "edits": _edit_scores,
    "hallucination": _hallucination_scores,
    "loss": _loss_scores,
    "masks": _mask_scores,
    "prompts": by_kind("text to picture", "GenEval accuracy", "accuracy", "tag", "prompts"),
}
