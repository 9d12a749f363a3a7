"""Lengths that programs are compiled for: few, so that the next question finds the program of the last one."""

from collections.abc import Sequence

from sgt_jax.data import packing
from sgt_jax.data.packing import Lanes, Spec

SMALLEST = 64  # slots: one program for all short texts


def bucket(length: int) -> int:
    """Rounded up: 0, 64, then four steps in every doubling (80, 96, 112, 128, 160, ...): at most a quarter more."""
    if length <= SMALLEST:
        return SMALLEST if length else 0
    step = 1 << ((length - 1).bit_length() - 3)
    return -(-length // step) * step


def budgets(laid: Sequence[Lanes], spec: Spec) -> dict[str, int]:
    """Slots per lane that hold every one of some laid-out samples; lanes of whole pictures are not rounded."""
    exact = packing.lane_budgets(laid, spec, multiple=1)
    return {lane: n if lane.startswith("pixels") else bucket(n) for lane, n in exact.items()}
