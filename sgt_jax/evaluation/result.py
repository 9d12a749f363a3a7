"""What one evaluation measured: values per item that can be paired later, and pictures to look at."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.evaluation.statistics import Score, compare

Items = Mapping[str, Sequence[Any]]  # name -> values per item (numbers or strings), all of one length


class Title(NamedTuple):
    """What stands above an evaluator's pictures in a report, and one line that says what they show."""

    title: str
    caption: str = ""


@dataclasses.dataclass
class Result:
    """One evaluation of one set of weights.

    Attributes:
      items: name -> per-item values, equally long lists or arrays (numbers or strings).
      columns, rows, captions: a picture grid, may be empty.
      painted: numbers of the columns that the model painted; the others are the same at every evaluation.
    """

    items: dict[str, Any]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[np.ndarray | None]] = ()
    captions: Sequence[str] = ()
    painted: Sequence[int] = ()

    def scores(self) -> Iterator[tuple[str, float]]:
        """(name, mean) of every numeric item list."""
        for name, values in self.items.items():
            array = np.asarray(values)
            if array.dtype.kind in "bif" and array.size:
                yield name, float(np.mean(array))


def by_kind(
    after: Items, before: Items | None, *, group: str, name: str, key: str, kinds: Sequence[str], by: str, **words: Any
) -> list[Score]:
    """Scores of the items `key`: over all, then for each of some kinds.

    Args:
      after, before: per-item results at the end and at the start of a run.
      group, name: as in `statistics.Score`.
      key: the items to average.
      kinds: values of the items `by`, in the order of the scores.
      words: for `statistics.compare`; values that are arrays hold one entry per item and are cut to the kind.
    """
    of_items = np.asarray(after[by])
    scores = []
    for kind in ["", *kinds]:
        pick = of_items == kind if kind else np.ones(len(of_items), bool)
        part = {word: value[pick] if isinstance(value, np.ndarray) else value for word, value in words.items()}
        previous = None if before is None else np.asarray(before[key])[pick]
        scores.append(compare(group, name, np.asarray(after[key])[pick], before=previous, kind=kind, **part))
    return scores
