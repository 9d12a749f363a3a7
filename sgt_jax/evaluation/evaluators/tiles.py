"""Shuffled tiles of held-out pictures that a model paints in order."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sgt_jax.data.pictures.resizing import to_canvas
from sgt_jax.data.proxies.jigsaw import cut_to_multiple, tiles
from sgt_jax.errors import DataError
from sgt_jax.evaluation.result import Items, Result, Title
from sgt_jax.evaluation.statistics import Score, compare
from sgt_jax.evaluation.subject import Params, Subject, paint_shapes


class Tiles:
    """Pictures painted from their shuffled tiles: how many tiles came to their places.

    A tile is in its place if, of all tiles of the true picture, the one that belongs there is the nearest by squared error.
    Beside the score stands that of the picture as it was shown, in which some tiles lie right by chance.

    Options:
      source, n: whose first n pictures are shuffled.
      proxy_options: of the proxy "jigsaw": grid, style of the wordings, ...
      show: pictures in the report.
      seed, steps, shift, text_scale, batch: of the sampler; picture i has the seed seed + i.
    """

    TITLE = Title(
        "Pictures put in order", "Held-out pictures: the shuffled tiles that the model saw, the picture, what it painted."
    )

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        self._subject, self._options = subject, options
        source = subject.source(options["source"])
        examples = [source[i] for i in range(min(options["n"], len(source)))]
        if not examples:
            raise DataError(f"{source!r} holds no picture to shuffle")
        rng = np.random.default_rng(options["seed"])
        task = subject.task({"task": "proxy", "proxy": "jigsaw", "options": dict(options["proxy_options"])})
        pairs = [task.pair(example, rng) for example in examples]
        self._grid = int(options["proxy_options"].get("grid", 3))
        self._names = [example.name for example in examples]
        self._plans = [task.read_pair(pair) for pair in pairs]
        self._shown = [to_canvas(pair.condition, subject.canvases) for pair in pairs]
        self._targets = [to_canvas(pair.target, subject.canvases) for pair in pairs]

    def __call__(self, params: Params) -> Result:
        shapes = [target.shape[:2] for target in self._targets]
        painted = paint_shapes(self._subject, params, self._plans, shapes, self._options)
        items = {
            "in_place": [self._in_place(a, b) for a, b in zip(painted, self._targets)],
            "shown_in_place": [self._in_place(a, b) for a, b in zip(self._shown, self._targets)],
            "picture": self._names,
        }
        show = range(min(self._options["show"], len(painted)))
        rows = [[self._shown[i], self._targets[i], painted[i]] for i in show]
        return Result(items, ("condition", "target", "prediction"), rows, painted=(2,))

    def _in_place(self, picture: np.ndarray, target: np.ndarray) -> float:
        """Share of the places whose tile in `picture` is nearest to the one that `target` has there."""
        cut = (cut_to_multiple(x.astype(np.float64), self._grid) for x in (picture, target))
        mine, true = (tiles(x, self._grid) for x in cut)
        errors = ((mine[:, None] - true[None]) ** 2).mean((2, 3, 4))
        return float((errors.argmin(1) == np.arange(len(mine))).mean())

    @staticmethod
    def scores(after: Items, before: Items | None) -> list[Score]:
        """Tiles in their places, beside those of the picture as it was shown."""
        return [
            compare(
                "jigsaw", "tiles in their places", after["in_place"], before=before and before["in_place"],
                baseline=after["shown_in_place"], baseline_name="as shown", items="held-out pictures", unit="%",
            )
        ]  # fmt: skip
