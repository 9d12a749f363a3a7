"""What the arms of a study paint: input and target once, and a column an arm, cut out of the grids in its results folder."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from sgt_jax.evaluation.evaluators import by_name
from sgt_jax.reporting import grids, page
from sgt_jax.study import records

CAPTIONS = "captions.json"  # {evaluator: one text an example of its grid}
_REQUESTS = ("prompt", "request")  # items that say in words what was asked for
_MOST = 8  # examples on a page

Cells = Sequence[Sequence[np.ndarray]]


def read(folder: epath.PathLike, arms: Sequence[str], evaluators: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One sheet for each thing that was painted: "what", "columns" and "rows" of (caption, embedded pictures).

    Columns that are the same for all arms, as input and target are, stand once, in front; then one an arm.

    Args:
      folder: a study's results.
      arms: in the order of their columns.
      evaluators: config.evaluators of the study's runs, whose types know the titles of the columns.
    """
    pictures = epath.Path(folder) / records.PICTURES
    found: dict[str, dict[str, Cells]] = {}
    for path in sorted(pictures.glob("*.png"), key=lambda p: p.name):
        # Names may hold underscores themselves: the longest arm that fits is meant.
        if fitting := [arm for arm in arms if path.name.startswith(arm + "_")]:
            arm = max(fitting, key=len)
            with path.open("rb") as file:
                sheet = np.asarray(Image.open(file).convert("RGB"))
            found.setdefault(path.stem.removeprefix(arm + "_"), {})[arm] = grids.cells(sheet)
    told = json.loads((pictures / CAPTIONS).read_text()) if (pictures / CAPTIONS).exists() else {}
    ordered = sorted(found, key=lambda what: (what != "masks", what))
    return [
        _sheet(
            what,
            {a: found[what][a] for a in arms if a in found[what]},
            _titles(evaluators.get(what)),
            told.get(what, ()),
        )
        for what in ordered
    ]


def _titles(options: Mapping[str, Any] | None) -> Sequence[str]:
    return getattr(by_name(options["type"]), "COLUMNS", ()) if options else ()


def _sheet(what: str, by_arm: Mapping[str, Cells], titles: Sequence[str], captions: Sequence[str]) -> dict[str, Any]:
    first = next(iter(by_arm.values()))
    count = min(len(cells) for cells in by_arm.values())
    width = min(len(row) for cells in by_arm.values() for row in cells)
    shared = [c for c in range(width) if all(_same(first, cells, c, count) for cells in by_arm.values())]
    if len(by_arm) == 1:
        shared = list(range(width - 1))  # nothing tells what is the model's; where there is a target it comes before
    own = [c for c in range(width) if c not in shared]
    titles = titles or [f"column {c + 1}" for c in range(width)]
    columns = [titles[c] for c in shared]
    columns += [arm if len(own) == 1 else f"{arm}, {titles[c]}" for arm in by_arm for c in own]
    rows = []
    for r in range(min(count, _MOST)):
        row = [first[r][c] for c in shared] + [cells[r][c] for cells in by_arm.values() for c in own]
        rows.append((captions[r] if r < len(captions) else "", [page.embedded_array(picture) for picture in row]))
    return {"what": what, "columns": columns, "rows": rows}


def _same(a: Cells, b: Cells, column: int, rows: int) -> bool:
    return all(np.array_equal(a[r][column], b[r][column]) for r in range(rows))


def save_captions(results: epath.Path, items: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
    """Writes beside the grids what was asked for in words, from the items of every evaluator; see `CAPTIONS`."""
    told = {}
    for evaluator, lists in items.items():
        if texts := next((lists[name] for name in _REQUESTS if name in lists), None):
            told[evaluator] = [str(text) for text in texts[:_MOST]]
    if told:
        records.write_json(results / records.PICTURES / CAPTIONS, told)
