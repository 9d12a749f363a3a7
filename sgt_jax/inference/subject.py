"""A checkpoint as the subject of evaluators: an assistant together with the sources that it is asked about."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.batch import PackedBatch
from sgt_jax.data import packing
from sgt_jax.data.examples import Example
from sgt_jax.data.pictures.resizing import Canvases
from sgt_jax.data.sources import open_source
from sgt_jax.data.tasks import Task, make_task
from sgt_jax.errors import DataError, hint
from sgt_jax.evaluation.subject import Params, Plan
from sgt_jax.inference.assistant import Assistant


class CheckpointSubject:
    """What evaluators need of a checkpoint; see `evaluation.subject.Subject` for the methods."""

    def __init__(
        self, assistant: Assistant, sources: Mapping[str, Mapping[str, Any]], canvases: Sequence[tuple[int, int]]
    ) -> None:
        """`sources` are specs by name, as in config.data.sources; `canvases` are the sizes that it paints."""
        self._canvases = tuple(tuple(canvas) for canvas in canvases)
        self._assistant, self._specs = assistant, sources
        self._sources: dict[str, Sequence[Example]] = {}
        self._vit_size = assistant.family.reading_rule(assistant.config, assistant.defaults["chat"].vit)

    @property
    def canvases(self) -> Canvases:
        return self._canvases

    def source(self, name: str) -> Sequence[Example]:
        if name not in self._specs:
            raise DataError(f"no source '{name}'; {hint(name, self._specs)}")
        if name not in self._sources:
            self._sources[name] = open_source(self._specs[name])
        return self._sources[name]

    def task(self, spec: Mapping[str, Any]) -> Task:
        encode = self._assistant.tokenizer.encode
        return make_task(spec, encode=encode, vit_size=self._vit_size, canvases=self._canvases)

    def slots(self, plan: Plan) -> dict[str, int]:
        return packing.lengths(self._assistant.sampler(()).layout.lay_out(tuple(plan)))

    def answer(
        self, params: Params, plans: Sequence[Plan], *, max_new_tokens: int, batch: int,
        budgets: Mapping[str, int] | None = None,
    ) -> list[str]:  # fmt: skip
        sampler = self._assistant.sampler(())
        return sampler.answer(params, plans, max_new_tokens=max_new_tokens, batch=batch, budgets=budgets)

    def paint(
        self, params: Params, plans: Sequence[Plan], shape: tuple[int, int], *, seeds: Sequence[int], steps: int,
        shift: float, batch: int, text_scale: float,
    ) -> np.ndarray:  # fmt: skip
        guidance = self._assistant.family.guidance(text_scale=text_scale)
        return self._assistant.sampler(self._canvases).paint(
            params, plans, shape, seeds=seeds, steps=steps, shift=shift, batch=batch, guidance=guidance
        )

    def through_autoencoder(self, params: Params, pictures: Sequence[np.ndarray], batch: int = 64) -> np.ndarray:
        return self._assistant.sampler(()).through_autoencoder(params, pictures, batch)

    def held_out_batches(self, source: str | Mapping[str, str], count: int) -> list[PackedBatch]:
        raise DataError("a checkpoint has no training mixture, so it has no held-out loss; ask the run that trained it")

    def losses(self, params: Params, batch: PackedBatch, seed: int) -> dict[str, float]:
        raise DataError("a checkpoint has no objective; ask the run that trained it")
