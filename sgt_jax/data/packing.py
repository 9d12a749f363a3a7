"""Fills rows of static length with samples. Knows only named lanes, lengths and budgets; no model, no picture, no text.

A *laid-out sample* is `{lane: {field: array [n, ...]}}`. Packing concatenates samples lane by lane up to each lane's
budget and pads the rest. Fields that point into another lane are shifted by what that lane already held.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sgt_jax.batch import PackedBatch
from sgt_jax.errors import DataError

Lanes = Mapping[str, Mapping[str, np.ndarray]]


class Field(NamedTuple):
    """How a field of a lane is stored.

    Attributes:
      dtype: NumPy dtype name.
      shape: shape of one slot's entry.
      fill: value of padding slots.
      points_to: name of the lane whose slots the (non-negative) values number, or "sample" for the running number of
        the sample in its row; None for plain values.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    fill: int = 0
    points_to: str | None = None


Spec = Mapping[str, Mapping[str, Field]]


def lengths(sample: Lanes) -> dict[str, int]:
    """Slots that a laid-out sample takes in each lane."""
    return {lane: len(next(iter(fields.values()))) for lane, fields in sample.items() if fields}


def check_fits(name: str, sample: Lanes, budgets: Mapping[str, int]) -> None:
    """Raises DataError if a sample alone exceeds a budget; the message names both and the remedy."""
    for lane, n in lengths(sample).items():
        if lane not in budgets:
            if n:
                raise DataError(
                    f"{name}: needs lane '{lane}', which has no budget; set config.data.budgets['{lane}'] "
                    f"(budgets are {dict(budgets)})"
                )
        elif n > budgets[lane]:
            raise DataError(
                f"{name}: takes {n} slots of lane '{lane}', but its budget is {budgets[lane]}; "
                f"raise config.data.budgets['{lane}'] to at least {n}, or use smaller pictures or shorter texts"
            )


def choose(pool: Sequence[Lanes], budgets: Mapping[str, int]) -> list[int]:
    """Which samples of a pool go into the next row: the oldest always, and then whatever fills the row best.

    Filling all budgets at once over a pool wastes far less than closing a row at the first sample that does not fit, and
    because the oldest always goes, nothing waits forever and nothing is lost. Two ways to take what still fits are tried,
    by age and largest first, and the fuller row wins. The choice is a function of the pool alone, so a restored pool
    continues identically.

    Returns:
      Indices into the pool, ascending.
    """
    needs = [lengths(sample) for sample in pool]
    slots = [sum(need.values()) for need in needs]
    by_age = range(len(pool))
    by_size = sorted(by_age, key=lambda i: (i > 0, -slots[i]))
    rows = [_take(needs, order, budgets) for order in (by_age, by_size)]
    return sorted(max(rows, key=lambda row: sum(slots[i] for i in row)))


def _take(needs: Sequence[Mapping[str, int]], order: Iterable[int], budgets: Mapping[str, int]) -> list[int]:
    """Goes through samples in an order and takes each that still fits."""
    left = dict(budgets)
    taken = []
    for i in order:
        if all(n <= left.get(lane, 0) for lane, n in needs[i].items()):
            taken.append(i)
            for lane, n in needs[i].items():
                if n:
                    left[lane] -= n
    return taken


def empty_batch(rows: int, spec: Spec, budgets: Mapping[str, int]) -> PackedBatch:
    """Rows of padding, {lane: {field: [rows, budget, ...]}}, for `pack_into`."""
    return {
        lane: {name: np.full((rows, budgets[lane], *f.shape), f.fill, f.dtype) for name, f in fields.items()}
        for lane, fields in spec.items()
        if lane in budgets
    }


def pack(samples: Sequence[Lanes], spec: Spec, budgets: Mapping[str, int]) -> dict[str, dict[str, np.ndarray]]:
    """Concatenates samples into one row, {lane: {field: [budget, ...]}}, shifting pointers and padding to the budgets.

    Raises:
      DataError: the samples together exceed a budget.
    """
    batch = empty_batch(1, spec, budgets)
    pack_into(batch, 0, samples, spec, budgets)
    return {lane: {name: x[0] for name, x in fields.items()} for lane, fields in batch.items()}


def pack_into(
    batch: PackedBatch, number: int, samples: Sequence[Lanes], spec: Spec, budgets: Mapping[str, int]
) -> None:
    """Like `pack`, into a row of an empty batch."""
    row = {lane: {name: x[number] for name, x in fields.items()} for lane, fields in batch.items()}
    used = dict.fromkeys(budgets, 0)
    used["sample"] = 0
    for sample in samples:
        check_fits("packed sample", sample, {lane: budgets[lane] - used[lane] for lane in budgets})
        for lane, fields in sample.items():
            if lane not in row:
                continue
            for name, values in fields.items():
                n = len(values)
                points_to = spec[lane][name].points_to
                if points_to is not None and used[points_to]:
                    values = np.where(values >= 0, values + used[points_to], values)
                # same_kind: a float picture in a uint8 field is an error, not garbage.
                np.copyto(row[lane][name][used[lane] : used[lane] + n], values, casting="same_kind")
        for lane, n in lengths(sample).items():
            if lane in used:
                used[lane] += n
        used["sample"] += 1


def lane_budgets(laid: Sequence[Lanes], spec: Spec, multiple: int = 16) -> dict[str, int]:
    """The longest length per lane, rounded up so that few shapes are ever compiled."""
    budgets = {}
    for lane in spec:
        longest = max((lengths(sample).get(lane, 0) for sample in laid), default=0)
        step = 1 if lane.startswith("pixels") else multiple
        budgets[lane] = -(-longest // step) * step
    return budgets


def stack_samples(laid: Sequence[Lanes], spec: Spec, budgets: dict[str, int]) -> PackedBatch:
    """One laid-out sample per row; an empty dict gives a row of padding."""
    batch = empty_batch(len(laid), spec, budgets)
    for number, sample in enumerate(laid):
        pack_into(batch, number, [sample] if sample else [], spec, budgets)
    return batch
