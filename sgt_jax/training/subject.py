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
from sgt_jax.data.pictures.resizing import Canvases, ResizeRule
from sgt_jax.data.pipeline import Batches
from sgt_jax.data.stored.tokenising import Encoding
from sgt_jax.data.tasks import Task
from sgt_jax.errors import DataError
from sgt_jax.evaluation.subject import Params, Plan
from sgt_jax.models.autoencoder.encoding import encoder
from sgt_jax.parallel.distributed import fetch
from sgt_jax.training.experiment import Experiment


class RunSubject:
    """What evaluators need of an experiment; see `evaluation.subject.Subject` for the methods."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._encoder: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def canvases(self) -> Canvases | ResizeRule:
        # Without canvases targets are tokenised, each at a size of its own.
        return self._experiment.canvases or ResizeRule(**self._experiment.config.data.target_size)

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

    def through_autoencoder(self, params: Params, pictures: Sequence[np.ndarray], batch: int = 64) -> np.ndarray:
        return self._experiment.sampler.through_autoencoder(params, pictures, batch)

    def held_out_batches(self, source: str | Mapping[str, str], count: int) -> list[PackedBatch]:
        experiment, data = self._experiment, self._experiment.config.data
        parts = []
        for part in experiment.components():
            if not isinstance(source, str) and part.name not in source:
                raise DataError(f"held-out batches need a source for part '{part.name}' of config.data.mixture")
            held_out = experiment.source(source if isinstance(source, str) else source[part.name])
            if part.name in experiment.mixture.tokenised:
                held_out = Encoding(held_out, experiment.mixture, part.name, self._encode)
            parts.append(dataclasses.replace(part, source=held_out))
        # Another seed than training, so that tasks draw other wordings.
        stream = iter(
            Batches(
                parts, experiment.layout, dict(data.budgets), rows=data.rows, seed=data.seed + 1, on_bad=data.on_bad
            )
        )
        made = [next(stream)[0] for _ in range(count)]
        self._encoder = None  # its weights are needed no more
        return made

    def losses(self, params: Params, batch: PackedBatch, seed: int) -> dict[str, float]:
        metrics = fetch(self._loss(params, batch, jax.random.key(seed))[1])
        return {name: float(value) for name, value in metrics.items() if value.ndim == 0}

    def _encode(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 3] -> moments float16 [N, h, w, 2C], by the autoencoder that tokenised targets are made with."""
        experiment = self._experiment
        # Every process encodes for itself, on one of its devices, as `tokenize` does.
        with jax.set_mesh(jax.sharding.Mesh(np.array(jax.local_devices()[:1]), ("one",))):
            if self._encoder is None:
                params = experiment.family.autoencoder.load(experiment.vae_file(), experiment.model_config)
                self._encoder = encoder(params, experiment.model_config.vae)
            return self._encoder(pictures)

    @functools.cached_property
    def _loss(self) -> Callable[..., tuple[jax.Array, dict[str, jax.Array]]]:
        return jax.jit(self._experiment.loss)
