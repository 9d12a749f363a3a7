"""What an evaluator needs of a model. A run under way is such a subject, and so is a published checkpoint.

Evaluators know no model family, no sampler and no layout: they hand plans over and get texts and pictures back.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from sgt_jax.batch import PackedBatch
from sgt_jax.data.examples import Example, PlanItem
from sgt_jax.data.pictures.resizing import Canvases, ResizeRule
from sgt_jax.data.tasks import Task

Params = Mapping[str, Any]  # nested dicts of arrays; an evaluator passes them on and never looks inside
Plan = Sequence[PlanItem]


class Subject(Protocol):
    """A model, without its parameters, together with the data that it is asked about.

    Attributes:
      canvases: sizes (height, width) of the pictures that it paints, or the rule by which each gets a size of its own.
    """

    @property
    def canvases(self) -> Canvases | ResizeRule: ...

    # -- Data ----------------------------------------------------------------------------------------------------------

    def source(self, name: str) -> Sequence[Example]:
        """A source by its name in config.data.sources, opened once.

        Raises:
          DataError: there is no such source, or its data are not there.
        """

    def task(self, spec: Mapping[str, Any]) -> Task:
        """A task as `sgt_jax.data.tasks.make_task` makes it, with this model's tokenizer and resize rules.

        Its `condition` is the only way to a plan, so that an evaluator asks as training did.

        Args:
          spec: "task" and the options of that task, as in config.data.mixture.
        """

    # -- Model ---------------------------------------------------------------------------------------------------------

    def slots(self, plan: Plan) -> dict[str, int]:
        """The slots per lane that a plan takes."""

    def answer(
        self, params: Params, plans: Sequence[Plan], *, max_new_tokens: int, batch: int,
        budgets: Mapping[str, int] | None = None,
    ) -> list[str]:  # fmt: skip
        """The text that the model writes after each plan, greedily, without special tokens.

        Args:
          plans: what is read before each answer.
          max_new_tokens: length at which an answer is cut off.
          batch: plans at a time; results do not depend on it.
          budgets: slots per lane of every row, where calls should share one program; by default what these plans need.
        """

    def paint(
        self, params: Params, plans: Sequence[Plan], shape: tuple[int, int], *, seeds: Sequence[int], steps: int,
        shift: float, batch: int, text_scale: float,
    ) -> np.ndarray:  # fmt: skip
        """The picture that the model paints after each plan, uint8 [N, H, W, 3].

        Args:
          plans: what is read before each picture.
          shape: (height, width) of all pictures, one of `canvases`.
          seeds: of the noise, one per picture.
          steps: evaluations of the model per branch of guidance.
          shift: of the grid of times.
          batch: plans at a time; results do not depend on it.
          text_scale: guidance by the last text of a plan; 1 switches it off.
        """

    def through_autoencoder(self, params: Params, pictures: Sequence[np.ndarray], batch: int = 64) -> np.ndarray:
        """Pictures uint8 [H, W, 3] of one size, encoded (posterior mean) and decoded, uint8 [N, H, W, 3].

        `batch` pictures are in memory at a time.
        """

    # -- Objective -----------------------------------------------------------------------------------------------------

    def held_out_batches(self, source: str | Mapping[str, str], count: int) -> Sequence[PackedBatch]:
        """The first `count` batches of the training mixture with every part's source replaced.

        Args:
          source: the name of the source that takes the place of all, or of one for each part of the mixture.

        Raises:
          DataError: there is no such source, or the subject was not trained on a mixture.
        """

    def losses(self, params: Params, batch: PackedBatch, seed: int) -> dict[str, float]:
        """The objective's scalar metrics on one batch; times and noise depend on the seed alone.

        Raises:
          DataError: the subject has no objective.
        """


def paint_each(
    subject: Subject,
    params: Params,
    plans: Sequence[Plan],
    shape: tuple[int, int],
    options: Mapping[str, Any],
    numbers: Sequence[int] | None = None,
) -> np.ndarray:
    """Pictures uint8 [N, H, W, 3] painted with the options of an evaluator.

    Args:
      options: of the evaluator: seed, steps, shift, batch, text_scale.
      numbers: of the plans among all that the evaluator has, 0 to N - 1 by default. Picture i gets the seed
        options["seed"] + i, whatever stands beside it in a batch.
    """
    return subject.paint(
        params,
        plans,
        shape,
        seeds=[options["seed"] + i for i in (range(len(plans)) if numbers is None else numbers)],
        steps=options["steps"],
        shift=options["shift"],
        batch=options["batch"],
        text_scale=options["text_scale"],
    )


def paint_shapes(
    subject: Subject,
    params: Params,
    plans: Sequence[Plan],
    shapes: Sequence[tuple[int, int]],
    options: Mapping[str, Any],
) -> list[np.ndarray]:
    """As `paint_each`, but every picture has a (height, width) of its own: those of one size are painted together."""
    painted: dict[int, np.ndarray] = {}
    for shape, group in by_shape(shapes):
        pictures = paint_each(subject, params, [plans[i] for i in group], shape, options, group)
        painted |= dict(zip(group, pictures, strict=True))
    return [painted[i] for i in range(len(plans))]


def by_shape(shapes: Sequence[tuple[int, int]]) -> list[tuple[tuple[int, int], list[int]]]:
    """Each (height, width) with the numbers of the pictures that have it."""
    return [(shape, [i for i, other in enumerate(shapes) if other == shape]) for shape in sorted(set(shapes))]
