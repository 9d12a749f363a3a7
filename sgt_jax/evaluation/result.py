"""What one evaluation found: values per item that can be paired later, and pictures to look at."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.evaluation.statistics import Score, compare
from sgt_jax.models.bagel.guidance import Guidance


@dataclasses.dataclass
class Result:
    """One evaluation of one set of weights.

    Attributes:
      items: name -> per-item values, equally long lists or arrays (numbers or strings).
      columns, rows, captions: a picture grid, may be empty.
    """

    items: dict[str, Any]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[np.ndarray | None]] = ()
    captions: Sequence[str] = ()

    def scores(self) -> Iterator[tuple[str, float]]:
        """(name, mean) of every numeric item list."""
        for name, values in self.items.items():
            array = np.asarray(values)
            if array.dtype.kind in "bif" and array.size:
                yield name, float(np.mean(array))


def paint(
    sampler: Any,
    params: Any,
    plans: Sequence,
    shape: tuple[int, int],
    numbers: Sequence[int],
    options: Mapping[str, Any],
) -> np.ndarray:
    """Pictures after plans; picture i has the seed options["seed"] + i, whatever the batch."""
    return sampler.paint(
        params,
        plans,
        shape,
        seeds=[options["seed"] + i for i in numbers],
        steps=options["steps"],
        shift=options["shift"],
        batch=options["batch"],
        guidance=Guidance(text_scale=options["text_scale"]),
    )


def by_kind(group: str, name: str, key: str, by: str, items: str) -> Callable[[dict, dict | None], list[Score]]:
    """Scores of the items `key`: over all, then for each value of the items `by`."""

    def scores(after: dict, before: dict | None) -> list[Score]:
        found, kinds = [], np.asarray(after[by])
        for kind in ["", *dict.fromkeys(after[by])]:
            pick = kinds == kind if kind else np.ones(len(kinds), bool)
            previous = np.asarray(before[key])[pick] if before else None
            found.append(
                compare(group, name, np.asarray(after[key])[pick], before=previous, kind=kind, items=items, unit="%")
            )
        return found

    return scores
