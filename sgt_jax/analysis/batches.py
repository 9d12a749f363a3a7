"""Plans of an analysis as batches of a model, at the sizes that a loaded checkpoint was trained with."""

from collections.abc import Iterator, Sequence

from sgt_jax.batch import PackedBatch
from sgt_jax.data.examples import PlanItem
from sgt_jax.data.layouts import Layout
from sgt_jax.data.packing import lane_budgets, stack_samples
from sgt_jax.data.pictures import resizing
from sgt_jax.inference.assistant import Assistant

Plan = Sequence[PlanItem]


def vit_size(model: Assistant) -> resizing.ResizeRule:
    """The rule by which this checkpoint resizes a picture that it is asked about."""
    return model.family.reading_rule(model.config, model.defaults["chat"].vit)


def canvas(model: Assistant) -> tuple[int, int]:
    """The square canvas (height, width) that analyses paint on: 512 pixels a side, or all that the model has."""
    stride = model.family.painting_rule(model.config).stride
    side = min(512 // stride * stride, model.family.largest_side(model.config))
    return side, side


def batches(plans: Sequence[Plan], layout: Layout, rows: int) -> Iterator[tuple[PackedBatch, int]]:
    """Plans as batches of `rows` rows, one plan a row, all of one shape; with each, how many of its rows are real."""
    laid = [layout.lay_out(tuple(plan)) for plan in plans]
    budgets = lane_budgets(laid, layout.spec)
    for start in range(0, len(laid), rows):
        part = laid[start : start + rows]
        yield stack_samples([*part, *[{}] * (rows - len(part))], layout.spec, budgets), len(part)
