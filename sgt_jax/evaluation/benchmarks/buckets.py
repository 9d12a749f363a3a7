"""Cuts all items of a benchmark into batches of few shapes, so that few programs are ever compiled."""

import dataclasses
from collections.abc import Mapping, Sequence

MOST = 6  # shapes per benchmark
_CANDIDATES = 48  # places where the sorted batches may be cut
_MULTIPLE, _SHORT = 16, 128  # lengths are multiples of 16, and of half of it up to 128

Slots = Mapping[str, int]  # lane -> slots


@dataclasses.dataclass(frozen=True)
class Batch:
    """Items that are answered together.

    Attributes:
      budgets: slots per lane, of every row.
      items: positions in the list of all items.
      bucket: the number of its shape.
    """

    budgets: dict[str, int]
    items: tuple[int, ...]
    bucket: int


def cut(slots: Sequence[Slots | None], batch: int, most: int = MOST) -> list[Batch]:
    """Batches in at most `most` shapes; a function of the list of all items alone.

    Items stand beside those of their length. Only the first batch, of the shortest, may have fewer items than the others:
    it is padded to as many rows.

    Args:
      slots: of every item; None leaves an item out.
      batch: items in one.
      most: shapes. They are placed where padding costs least.
    """
    order = sorted((i for i, s in enumerate(slots) if s is not None), key=lambda i: (sum(slots[i].values()), i))
    edges = [0, *range(len(order) % batch or batch, len(order) + 1, batch)] if order else [0]
    runs = [order[start:end] for start, end in zip(edges, edges[1:])]
    out = []
    for number, (start, end) in enumerate(_groups([_longest([slots[i] for i in run]) for run in runs], most)):
        budgets = _budgets([slots[i] for run in runs[start:end] for i in run])
        out += [Batch(budgets, tuple(sorted(run)), number) for run in runs[start:end]]
    return out


def _longest(slots: Sequence[Slots]) -> dict[str, int]:
    """The longest length per lane."""
    return {lane: max(s.get(lane, 0) for s in slots) for lane in sorted({lane for s in slots for lane in s})}


def _budgets(slots: Sequence[Slots]) -> dict[str, int]:
    """The longest length per lane, rounded up."""
    return {lane: _rounded(lane, length) for lane, length in _longest(slots).items()}


def _rounded(lane: str, length: int) -> int:
    step = 1 if lane.startswith("pixels") else _MULTIPLE if length > _SHORT else _MULTIPLE // 2
    return -(-length // step) * step


def _groups(longest: Sequence[Slots], most: int) -> list[tuple[int, int]]:
    """Spans of batches, at most `most`, with the least sum of (batches x slots of their common shape)."""
    n = len(longest)
    if not n:
        return []
    edges = sorted({round(n * k / _CANDIDATES) for k in range(_CANDIDATES + 1)})
    parts = [_longest(longest[start:end]) for start, end in zip(edges, edges[1:])]
    price: list[list[float]] = []  # of one shape for all batches from edge i to edge j
    for i, start in enumerate(edges):
        row, widest = [0.0] * (i + 1), {}
        for j in range(i, len(parts)):
            widest = _longest([widest, parts[j]])
            row.append((edges[j + 1] - start) * sum(_rounded(*lane) for lane in widest.items()))
        price.append(row)
    # best[k][j]: least cost of the batches before edges[j] in k groups, and where the last of them starts
    best: list[list[tuple[float, int]]] = [[(0.0, 0)] + [(float("inf"), 0)] * (len(edges) - 1)]
    for _ in range(most):
        row = [(0.0, 0)]
        for j in range(1, len(edges)):
            row.append(min((best[-1][i][0] + price[i][j], i) for i in range(j)))
        best.append(row)
    spans, j, k = [], len(edges) - 1, most
    while j > 0:
        i = best[k][j][1]
        spans.append((edges[i], edges[j]))
        j, k = i, k - 1
    return spans[::-1]
