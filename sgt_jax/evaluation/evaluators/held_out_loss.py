"""What a run measures about its model: evaluators over any source, each giving per-item results that can be paired.

An evaluator is built once per run and called with parameters. It returns a Result: per-item arrays (kept in the work
directory, so that intervals and paired differences can be computed later), and pictures to look at. `scores` turns them
into (name, value) pairs for the log.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from sgt_jax.evaluation.result import Result
from sgt_jax.evaluation.statistics import Score, compare
from sgt_jax.parallel.distributed import fetch


class HeldOutLoss:
    """Cross-entropy and flow loss on fixed batches of the training mixture, drawn from held-out sources.

    Options: source (replaces every component's source), batches.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        from sgt_jax.data.pipeline import Batches

        data = experiment.config.data
        source = experiment.source(options["source"])
        parts = [dataclasses.replace(part, source=source) for part in experiment.components()]
        stream = iter(Batches(parts, experiment.layout, dict(data.budgets), rows=data.rows, seed=data.seed + 1))
        self._batches = [next(stream)[0] for _ in range(options["batches"])]
        self._loss = jax.jit(experiment.loss)

    def __call__(self, params: Any) -> Result:
        metrics = [fetch(self._loss(params, batch, jax.random.key(i))[1]) for i, batch in enumerate(self._batches)]
        return Result({name: [float(m[name]) for m in metrics] for name in ("ce", "mse") if name in metrics[0]})


def _loss_scores(after: dict, before: dict | None) -> list[Score]:
    words = {"items": "held-out batches", "lower_is_better": True}
    labels = {"ce": "cross-entropy per answer token", "mse": "flow loss per latent token"}
    return [
        compare("loss", label, after[key], before=before and before[key], **words)
        for key, label in labels.items()
        if key in after
    ]
