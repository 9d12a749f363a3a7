"""Lengths that programs are compiled for: few, so that the next question finds the program of the last one."""

from collections.abc import Sequence

from sgt_jax.data import packing
from sgt_jax.data.packing import Lanes, Spec

SMALLEST = 64  # slots: one program for all short texts
MANY = 16  # rows: a batch of so many pays more for empty slots than for a program of its own
SMALLEST_OF_MANY = 16


def bucket(length: int, rows: int = 1) -> int:
    """Rounded up: 0, 64, then four steps in every doubling (80, 96, 112, 128, 160, ...): at most a quarter more.

    In batches of many rows the steps begin at 16 (20, 24, 28, 32, 40, ...).
    """
    smallest = SMALLEST_OF_MANY if rows >= MANY else SMALLEST
    if length <= smallest:
        return smallest if length else 0
    step = 1 << ((length - 1).bit_length() - 3)
    return -(-length // step) * step


def budgets(laid: Sequence[Lanes], spec: Spec, rows: int = 1) -> dict[str, int]:
    """Slots per lane that hold every one of some laid-out samples, `rows` at a time; those of pictures are not rounded."""
    exact = packing.lane_budgets(laid, spec, multiple=1)
    return {lane: n if lane.startswith("pixels") else bucket(n, rows) for lane, n in exact.items()}
