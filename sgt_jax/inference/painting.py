"""Paintings after many different histories, in batches; `Assistant.paint` has several results of one history instead."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.inference.assistant import Assistant, History
from sgt_jax.models.family import Settings


def settings_of(assistant: Assistant, mode: str, guidance: Mapping[str, Any], **changes: Any) -> Settings:
    """A mode's settings with other guidance, and with `changes` (steps, shift) that are not None.

    Fields that the family's guidance lacks are left out.
    """
    own = assistant.defaults[mode]
    known = {field.name for field in dataclasses.fields(own.guidance)}
    guided = dataclasses.replace(own.guidance, **{k: v for k, v in guidance.items() if k in known})
    return dataclasses.replace(own, guidance=guided, **{k: v for k, v in changes.items() if v is not None})


def output_shape(assistant: Assistant, history: History, shape: tuple[int, int] | None = None) -> tuple[int, int]:
    """(height, width) of the picture after a history; see `Assistant.paint`. Raises DataError."""
    return assistant._output_shape(history, shape)


def paint_many(
    assistant: Assistant, histories: Sequence[History], mode: str, *, seeds: Sequence[int], settings: Settings,
    batch: int, shape: tuple[int, int] | None = None,
) -> np.ndarray:  # fmt: skip
    """Pictures uint8 [N, H, W, 3], one after each history; all must have one size.

    Args:
      mode: "t2i" or "edit"; edits read their pictures through both encoders.
      seeds: one per picture. A picture does not depend on what stands beside it in a batch.
      batch: pictures at a time.
      shape: (height, width); by default that of the first history.

    Raises:
      DataError: a size that the model cannot paint.
    """
    plans = [assistant._plan(history, settings, vae=mode != "segment") for history in histories]
    canvases = tuple(sorted({item.data.shape[:2] for plan in plans for item in plan if item.type == "vae_image"}))
    return assistant.sampler(canvases).paint(
        assistant.params, plans, assistant._output_shape(histories[0], shape), seeds=seeds, steps=settings.steps,
        shift=settings.shift, batch=batch, guidance=settings.guidance,
    )  # fmt: skip
