"""Different requests in one batch: what a list of prompts, or a server, asks of an Assistant at once.

Requests that paint pictures of one size in the same way share batches; every one has its own history and seed, and its result
does not depend on which others stand beside it.
"""

import dataclasses
from collections.abc import Sequence

from sgt_jax.errors import DataError
from sgt_jax.inference.assistant import CHAT_PIXELS, Assistant, History
from sgt_jax.inference.results import Painting
from sgt_jax.models.family import Settings


@dataclasses.dataclass(frozen=True)
class Request:
    """One picture or answer that somebody wants.

    Attributes:
      history: texts and pictures (uint8 [H, W, 3]) in the order in which they are read.
      mode: "chat", "t2i" or "edit", as in `Assistant`; "segment" paints but decodes nothing.
      seed: of this result alone.
      shape: (height, width) of a painting; None as in `Assistant.paint`.
      settings: None for the mode's defaults.
    """

    history: History
    mode: str
    seed: int = 0
    shape: tuple[int, int] | None = None
    settings: Settings | None = None


def paint(assistant: Assistant, requests: Sequence[Request], batch: int = 8) -> list[Painting]:
    """A painting for each request, in their order; `batch` pictures are painted at a time.

    Raises:
      DataError: a request is empty, or for a size that the model does not paint.
    """
    groups: dict[tuple, list[tuple[int, list]]] = {}
    for number, request in enumerate(requests):
        settings = request.settings or assistant.defaults[request.mode]
        plan = assistant._plan(request.history, settings, vae=request.mode != "segment")
        if not plan:
            raise DataError(f"request {number} is empty: give a text or a picture")
        shape = assistant._output_shape(request.history, request.shape)
        canvases = tuple(sorted({item.data.shape[:2] for item in plan if item.type == "vae_image"}))
        key = (shape, canvases, settings.steps, settings.shift, settings.guidance)
        groups.setdefault(key, []).append((number, plan))
    out: dict[int, Painting] = {}
    for (shape, canvases, steps, shift, guidance), members in groups.items():
        pictures = assistant.sampler(canvases).paint(
            assistant.params, [plan for _, plan in members], shape, seeds=[requests[n].seed for n, _ in members],
            steps=steps, shift=shift, batch=min(batch, len(members)), guidance=guidance,
        )  # fmt: skip
        out.update({number: Painting(picture) for (number, _), picture in zip(members, pictures, strict=True)})
    return [out[number] for number in range(len(requests))]


def answer(
    assistant: Assistant, requests: Sequence[Request], *, max_new_tokens: int = 500, temperature: float = 0.0,
    batch: int = 8,
) -> list[str]:  # fmt: skip
    """A text for each request, in their order; greedy at temperature 0. `batch` texts are written at a time."""
    plans = []
    for request in requests:
        settings = request.settings or assistant.defaults[request.mode]
        plans.append(assistant._plan(request.history, settings, vae=False, max_pixels=CHAT_PIXELS))
    return assistant.sampler(()).answer(
        assistant.params, plans, max_new_tokens=max_new_tokens, batch=max(min(batch, len(plans)), 1),
        temperature=temperature, seeds=[request.seed for request in requests],
    )  # fmt: skip
