"""A run under way as the subject of evaluators: its sources and tasks, its sampler and its objective."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sgt_jax.batch import PackedBatch
from sgt_jax.data import packing
from sgt_jax.data.examples import Example
from sgt_jax.data.pictures.resizing import Canvases
from sgt_jax.data.pipeline import Batches
from sgt_jax.data.tasks import Task
from sgt_jax.evaluation.subject import Params, Plan
from sgt_jax.parallel.distributed import fetch
from sgt_jax.training.experiment import Experiment


class RunSubject:
    """What evaluators need of an experiment; see `evaluation.subject.Subject` for the methods."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    @property
    def canvases(self) -> Canvases:
        return self._experiment.canvases

    def source(self, name: str) -> Sequence[Example]:
        return self._experiment.source(name)

    def task(self, spec: Mapping[str, Any]) -> Task:
        return self._experiment.task(dict(spec))

    def slots(self, plan: Plan) -> dict[str, int]:
        return packing.lengths(self._experiment.sampler.layout.lay_out(tuple(plan)))

    def answer(
        self, params: Params, plans: Sequence[Plan], *, max_new_tokens: int, batch: int,
        budgets: Mapping[str, int] | None = None,
    ) -> list[str]:  # fmt: skip
        sampler = self._experiment.sampler
        return sampler.answer(params, plans, max_new_tokens=max_new_tokens, batch=batch, budgets=budgets)

    def paint(
        self, params: Params, plans: Sequence[Plan], shape: tuple[int, int], *, seeds: Sequence[int], steps: int,
        shift: float, batch: int, text_scale: float,
    ) -> np.ndarray:  # fmt: skip
        guidance = self._experiment.family.guidance(text_scale=text_scale)
        return self._experiment.sampler.paint(
            params, plans, shape, seeds=seeds, steps=steps, shift=shift, batch=batch, guidance=guidance
        )

    def through_autoencoder(self, params: Params, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return self._experiment.sampler.through_autoencoder(params, pictures)

    def held_out_batches(self, source: str, count: int) -> list[PackedBatch]:
        experiment, data = self._experiment, self._experiment.config.data
        held_out = experiment.source(source)
        parts = [dataclasses.replace(part, source=held_out) for part in experiment.components()]
        # Another seed than training, so that tasks draw other wordings.
        stream = iter(Batches(parts, experiment.layout, dict(data.budgets), rows=data.rows, seed=data.seed + 1))
        return [next(stream)[0] for _ in range(count)]

    def losses(self, params: Params, batch: PackedBatch, seed: int) -> dict[str, float]:
        metrics = fetch(self._loss(params, batch, jax.random.key(seed))[1])
        return {name: float(value) for name, value in metrics.items() if value.ndim == 0}

    @functools.cached_property
    def _loss(self) -> Callable[..., tuple[jax.Array, dict[str, jax.Array]]]:
        return jax.jit(self._experiment.loss)
