"""What a server has programs for: sizes of pictures, lengths of prompts, branches of guidance.

Compiling takes longer than a client waits, so a server compiles all that it offers at its start and nothing after it. Every
request for a picture is brought to something that is offered, or refused by a line that says what is. `sample --batch` and
other callers of the engine offer nothing in advance; then each request has programs of its own.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.data import packing
from sgt_jax.data.examples import PlanItem
from sgt_jax.errors import DataError
from sgt_jax.inference import buckets
from sgt_jax.inference.assistant import Assistant
from sgt_jax.inference.jobs import Request
from sgt_jax.models import guiding

SHORT, LONG = 128, 2048  # tokens of a prompt for which there are programs, the second cut to what the model has
USUAL_CONTEXT = 8192
_BESIDE = 4  # pictures that take less than this share of a short prompt's room stand in it, and need none of their own
_MODES = ("t2i", "edit", "segment")


class Fitted(NamedTuple):
    """The sizes of one request, each (height, width).

    Attributes:
      shape: that is painted.
      size: that its pictures are given before the autoencoder reads them; None for the model's own rule.
      shown: of the result where it is not that which is painted; else None.
    """

    shape: tuple[int, int]
    size: tuple[int, int] | None = None
    shown: tuple[int, int] | None = None


def positions(assistant: Assistant) -> int:
    """Positions that a model has, or a usual number where it has no bound."""
    return getattr(getattr(assistant.config, "llm", None), "max_position_embeddings", 0) or USUAL_CONTEXT


class Offered:
    """What is compiled for at the start.

    Attributes:
      sizes: (height, width) of pictures; every one is a size that the model paints.
      lengths: tokens of a prompt, short and long.
      counts: how many pictures an edit may hold; less are padded.
    """

    def __init__(self, assistant: Assistant, sizes: Sequence[tuple[int, int]]) -> None:
        """Raises DataError: a size that the model does not paint."""
        self._assistant = assistant
        self.sizes = tuple(dict.fromkeys(assistant._output_shape(["a"], size) for size in sizes))
        self.lengths = tuple(sorted({min(n, positions(assistant)) for n in (SHORT, LONG)}))
        self.counts = tuple(sorted({1, assistant.family.references}))
        self._ladders: dict[Any, list[dict[str, int]]] = {}

    def fit(self, request: Request) -> Fitted:
        """The sizes of a request. Raises DataError: a size, or a number of pictures, that is not offered."""
        assistant, history = self._assistant, request.history
        wanted = assistant._output_shape(history, request.shape)
        seen = [entry for entry in history if not isinstance(entry, str)]
        if len(seen) > self.counts[-1]:
            raise DataError(f"a picture is made from {self.counts[-1]} pictures at most, not {len(seen)}")
        if request.shape is not None:
            if wanted not in self.sizes:
                asked, offered = _said(request.shape), ", ".join(map(_said, self.sizes))
                raise DataError(f"'size': this server paints pictures of {offered}, not {asked}; serve --sizes adds others")
            return Fitted(wanted, wanted if seen else None, None)
        shape = wanted if wanted in self.sizes else self._nearest(wanted) if seen else self.sizes[0]
        # A map is decoded at the size that it was painted at: its colours must not blend.
        shown = wanted if seen and shape != wanted and request.mode != "segment" else None
        return Fitted(shape, shape if seen else None, shown)

    def _nearest(self, wanted: tuple[int, int]) -> tuple[int, int]:
        """The size of the closest aspect ratio, and of those the one of the closest area."""

        def far(size: tuple[int, int]) -> tuple[float, float]:
            ratio = math.log(size[0] / size[1] * wanted[1] / wanted[0])
            return abs(ratio), abs(math.log(size[0] * size[1] / (wanted[0] * wanted[1])))

        return min(self.sizes, key=far)

    def kinds(self, mode: str) -> tuple[Any, ...]:
        """Kinds of guidance of a mode: the default, and one that has text guidance, and for edits image guidance, too."""
        own = guiding.kind(self._assistant.defaults[mode].guidance)
        return tuple(dict.fromkeys((own, guiding.wider(own, image=mode == "edit"))))

    def kind(self, mode: str, guidance: Any) -> Any:
        """The kind that a request's guidance runs with. Raises DataError: none of the mode's has its branches."""
        asked = guiding.kind(guidance)
        found = next((one for one in self.kinds(mode) if guiding.covers(one, asked)), None)
        if found is None:
            raise DataError(f"'image_scale': this server has guidance by picture for edits; leave it at 1 in mode {mode}")
        return found

    def budgets(self, request: Request, size: tuple[int, int], count: int, kind: Any, laid: Sequence[Any]) -> dict[str, int]:
        """Slots per lane of the shortest prompt that is offered and holds some laid-out branches. Raises DataError."""
        ladder = self.ladder(request, size, count, kind)
        need = {lane: max(packing.lengths(sample).get(lane, 0) for sample in laid) for lane in ladder[0]}
        for budgets in ladder:
            if all(need[lane] <= budgets[lane] for lane in need):
                return budgets
        raise DataError(f"the prompt takes {need['und']} tokens, and this server paints after {ladder[-1]['und']} at most")

    def ladder(self, request: Request, size: tuple[int, int], count: int, kind: Any) -> list[dict[str, int]]:
        """Slots per lane for each length of prompts, with as many pictures of a size as are offered for `count`."""
        count = next((n for n in self.counts if n >= count), self.counts[-1]) if count else 0
        settings = request.settings or self._assistant.defaults[request.mode]
        key = (request.mode, settings.vit, getattr(settings, "condition", None), size, count, kind)
        if key not in self._ladders:
            self._ladders[key] = self._make_ladder(request, size, count, kind)
        return self._ladders[key]

    def _make_ladder(self, request: Request, size: tuple[int, int], count: int, kind: Any) -> list[dict[str, int]]:
        assistant, latents = self._assistant, request.mode != "segment"
        settings = request.settings or assistant.defaults[request.mode]
        pictures = [np.zeros((*size, 3), np.uint8)] * count
        plan = assistant._plan(pictures, settings, vae=latents, size=size)
        sampler = assistant.sampler((size,) if any(item.type == "vae_image" for item in plan) else ())

        def lengths(plan: list[PlanItem]) -> dict[str, int]:
            branches = sampler.steps.branches(plan, (), guiding.spread(settings.guidance, kind))
            laid = [sampler.layout.lay_out(tuple(branch)) for branch in branches]
            return packing.lane_budgets(laid, sampler.layout.spec, multiple=1)

        bare, worded = lengths(plan), lengths([*plan, PlanItem("text", [0] * 64)])

        def slots(lane: str, length: int) -> int:
            if bare[lane] == worded[lane]:  # pictures alone
                return bare[lane] if lane.startswith("pixels") else buckets.bucket(bare[lane])
            return length if bare[lane] * _BESIDE <= length else buckets.bucket(bare[lane] + length)

        return [{lane: slots(lane, length) for lane in bare} for length in self.lengths]

    def usual(self) -> Iterator[tuple[Request, Any]]:
        """(request, kind) of everything that is offered; the lengths of prompts are left to `ladder`."""
        for size in self.sizes:
            photo = np.zeros((*size, 3), np.uint8)
            for mode in _MODES:
                for count in {"t2i": (0,), "edit": self.counts, "segment": (1,)}[mode]:
                    for kind in self.kinds(mode):
                        yield Request([*[photo] * count, "a"], mode, shape=size), kind


def _said(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
