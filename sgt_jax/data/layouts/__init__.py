"""Layouts: how a plan of texts and pictures becomes lanes of slots; every family has its own."""

from collections.abc import Callable
from typing import Protocol

from sgt_jax.data.examples import PlanItem
from sgt_jax.data.packing import Lanes, Spec


class Layout(Protocol):
    """What data, training and inference know of a family's layout."""

    @property
    def spec(self) -> Spec:
        """The fields of every lane. Lane "labels" holds supervised text: `target`, `weight` (0: padding), `sample`."""

    def lay_out(
        self, plan: tuple[PlanItem, ...], uniform: Callable[[], float] | None = None, name: str = "sample"
    ) -> Lanes:
        """One sample; `uniform` draws for condition dropout, `name` is for errors."""
