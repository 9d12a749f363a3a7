"""Cuts all items of a benchmark into batches of few shapes, so that few programs are ever compiled."""

import dataclasses
from collections.abc import Mapping, Sequence

MOST = 6  # shapes per benchmark
_CANDIDATES = 48  # places where the sorted items may be cut
_MULTIPLE = 16

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

    Args:
      slots: of every item; None leaves an item out.
      batch: items in one.
      most: shapes. They are placed where padding costs least.
    """
    order = sorted((i for i, s in enumerate(slots) if s is not None), key=lambda i: (sum(slots[i].values()), i))
    out = []
    for number, (start, end) in enumerate(_groups([sum(slots[i].values()) for i in order], most)):
        group = sorted(order[start:end])
        budgets = _budgets([slots[i] for i in group])
        out += [Batch(budgets, tuple(group[i : i + batch]), number) for i in range(0, len(group), batch)]
    return out


def _budgets(slots: Sequence[Slots]) -> dict[str, int]:
    """The longest length per lane, rounded up."""
    budgets = {}
    for lane in sorted({lane for s in slots for lane in s}):
        step = 1 if lane.startswith("pixels") else _MULTIPLE
        budgets[lane] = -(-max(s.get(lane, 0) for s in slots) // step) * step
    return budgets


def _groups(totals: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Spans of ascending totals, at most `most`, with the least sum of (items x largest total)."""
    n = len(totals)
    if not n:
        return []
    edges = sorted({0, n, *(round(n * k / _CANDIDATES) for k in range(1, _CANDIDATES))})
    edges = [e for e in edges if e in (0, n) or totals[e - 1] < totals[e]]
    # best[k][j]: least cost of the items before edges[j] in k groups, and where the last of them starts
    best: list[list[tuple[float, int]]] = [[(0.0, 0)] + [(float("inf"), 0)] * (len(edges) - 1)]
    for _ in range(most):
        row: list[tuple[float, int]] = [(0.0, 0)]
        for j in range(1, len(edges)):
            cost = lambda i, j=j: best[-1][i][0] + (edges[j] - edges[i]) * totals[edges[j] - 1]  # noqa: E731
            at = min(range(j), key=cost)
            row.append((cost(at), at))
        best.append(row)
    spans, j, k = [], len(edges) - 1, most
    while j > 0:
        i = best[k][j][1]
        spans.append((edges[i], edges[j]))
        j, k = i, k - 1
    return spans[::-1]
