"""What the sampler of a family is made of, and how its pictures are painted: two faces that `family.py` names."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from sgt_jax.batch import PackedBatch
from sgt_jax.data.examples import PlanItem
from sgt_jax.models.slots import Slots

Params = Mapping[str, Any]  # nested dicts of arrays; several sub-models are several branches of one tree


class Settings(Protocol):
    """How pictures of one mode are painted and read: a frozen dataclass of the family with at least these fields.

    Attributes:
      steps: evaluations of the model per branch of guidance.
      shift: of the grid of times.
      guidance: hashable, of the family's own kind.
      vit: resize rule in front of the understanding encoder: (smallest short side, largest long side) in pixels.
    """

    steps: int
    shift: float
    guidance: Any
    vit: tuple[int, int]


class SamplingSteps(Protocol):
    """What the sampler of a family is made of. All but `branches` and `times` are pure, to be compiled by the caller.

    A context is what B rows have read: a pytree whose leaves start with [B].
    """

    def branches(
        self, plan: Sequence[PlanItem], thought: Sequence[int], guidance: Any
    ) -> tuple[Sequence[PlanItem], ...]:
        """What each branch of guidance reads, the main one first; `thought` is a text the model itself wrote after it."""

    def times(self, steps: int, shift: float, shape: tuple[int, int]) -> np.ndarray:
        """The times float32 [steps + 1] at which a picture of (height, width) is painted, noise first."""

    def read(self, params: Params, batch: PackedBatch, seeds: jax.Array, guidance: Any = None) -> Any:
        """The context after plans, one per row; rows i, i + len(seeds), ... share what is drawn for seed i.

        `guidance` is that of the picture to be painted, or of its kind; None before a text.
        """

    def write_text(
        self, params: Params, context: Any, seeds: jax.Array, active: jax.Array, temperature: jax.Array,
        max_length: int, greedy: bool,
    ) -> tuple[jax.Array, jax.Array]:  # fmt: skip
        """Texts after contexts: ids int32 [B, max_length], the opening mark first, and how many of them count, [B]."""

    def denoise(
        self, params: Params, context: Any, seeds: jax.Array, times: jax.Array, shape: tuple[int, int], guidance: Any
    ) -> jax.Array:
        """Unscaled latents [B, h, w, C] of pictures of (height, width), painted after contexts of all branches."""

    # One step at a time, so that a server can mix requests, show progress and stop; `models/slots.py`, `models/guiding.py`.

    def open_text(self, params: Params, batch: PackedBatch, seeds: jax.Array, temperature: jax.Array) -> Slots:
        """Reads plans, one per row, and picks the first token of each; temperature [B], 0 for greedy."""

    def feed_text(self, params: Params, state: Slots, live: jax.Array) -> Slots:
        """Feeds the newest token of each slot and picks the next; those that are not `live` [B] add holes."""

    def stops(self) -> tuple[int, ...]:
        """Ids that end a text."""

    def open_picture(self, params: Params, context: Any, seeds: jax.Array, shape: tuple[int, int]) -> Any:
        """The noise that `denoise` begins with, as a state of B rows."""

    def paint_step(
        self, params: Params, context: Any, state: Any, number: jax.Array, steps: jax.Array, times: jax.Array,
        shape: tuple[int, int], guidance: Any, values: Mapping[str, jax.Array],
    ) -> Any:  # fmt: skip
        """Step `number` of `steps`, between two `times`; `guidance` is of a kind (`guiding.kind`), `values` its numbers."""

    def close_picture(self, state: Any, shape: tuple[int, int]) -> jax.Array:
        """Unscaled latents [B, h, w, C] of a state after its last step."""

    def encode(self, params: Params, pixels: jax.Array) -> jax.Array:
        """uint8 [N, H, W, 3] -> the mean of their unscaled latents [N, h, w, C]."""

    def decode(self, params: Params, z: jax.Array) -> jax.Array:
        """Unscaled latents [N, h, w, C] -> uint8 [N, H, W, 3]."""
