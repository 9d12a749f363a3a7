"""Segmentation maps painted from held-out pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures import masks as masks_lib
from sgt_jax.data.pictures.resizing import to_canvas
from sgt_jax.data.tasks import Proxy
from sgt_jax.errors import DataError
from sgt_jax.evaluation import held_out
from sgt_jax.evaluation.result import Items, Result, Title
from sgt_jax.evaluation.rules import segmentation
from sgt_jax.evaluation.statistics import Score, compare
from sgt_jax.evaluation.subject import Params, Subject, by_shape, paint_shapes


class Masks:
    """Segmentation maps painted from pictures, decoded to instances and matched with the true ones.

    Beside each score stand the ceiling (the true map passed through the autoencoder alone) and the best constant map.

    Options:
      source, n: whose first n pictures are painted.
      train_source, train_n: training pictures that the constant map is chosen by, all of one size; with 0 there is none.
      proxy_options: of the proxy "segmentation": palette, style of the wordings, ...
      palette, max_masks: colours ("": find them) and number of instances that painted maps are decoded with.
      show: pictures in the report.
      on_bad: "error" (default), or "skip": pictures that the source refuses are passed over (see held_out.py).
      seed, steps, shift, text_scale, batch: of the sampler; picture i has the seed seed + i.
    """

    TITLE = Title(
        "Masks painted from pictures", "Held-out pictures: what the model saw, what it should paint, what it painted."
    )

    COLUMNS = ("condition", "target", "prediction")

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        self._subject, self._options = subject, options
        on_bad = options.get("on_bad", "error")
        self._examples, passed_over = held_out.first(subject.source(options["source"]), options["n"], on_bad)
        held_out.tell(passed_over, options["source"], len(self._examples))
        rng = np.random.default_rng(options["seed"])
        task: Proxy = subject.task(
            {"task": "proxy", "proxy": "segmentation", "options": dict(options["proxy_options"])}
        )
        pairs = [task.pair(example, rng) for example in self._examples]
        self._plans = [task.read_pair(pair) for pair in pairs]
        self._targets = [to_canvas(pair.target, subject.canvases, nearest=True) for pair in pairs]
        self._truth = [
            segmentation.true_instances(example, target.shape[:2])
            for example, target in zip(self._examples, self._targets)
        ]
        self._constant = None
        if options["train_n"]:
            training = subject.source(options["train_source"])
            self._constant = _best_constant(training, options["train_n"], on_bad, self._targets[0].shape[:2])
        self._references: dict[str, list[float]] | None = None  # ceiling and constant map, measured once

    def __call__(self, params: Params) -> Result:
        shapes = [target.shape[:2] for target in self._targets]
        painted = paint_shapes(self._subject, params, self._plans, shapes, self._options)
        if self._references is None:
            self._references = self._measure_references(params)
        items = {**self._score(painted), **self._references, "picture": [e.name for e in self._examples]}
        show = range(min(self._options["show"], len(painted)))
        rows = [[self._examples[i].image, self._targets[i], painted[i]] for i in show]
        return Result(items, self.COLUMNS, rows, painted=(2,))

    @staticmethod
    def scores(after: Items, before: Items | None) -> list[Score]:
        """Mask mIoU and panoptic quality, each beside the constant map and the ceiling."""
        words = {
            "ceiling_name": "true map through the autoencoder",
            "items": "held-out pictures",
            "unit": "%",
        }
        if "constant_miou" in after:
            words["baseline_name"] = "best constant mask"
        return [
            compare("segmentation", label, after[key], before=before and before[key],
                    baseline=after.get(f"constant_{key}"), ceiling=after[f"ceiling_{key}"], **words)
            for key, label in (("miou", "mask mIoU"), ("pq", "panoptic quality (class-agnostic)"))
        ]  # fmt: skip

    def _measure_references(self, params: Params) -> dict[str, list[float]]:
        through: list[Any] = [None] * len(self._targets)
        for _, group in by_shape([target.shape[:2] for target in self._targets]):
            pictures = self._subject.through_autoencoder(
                params, [self._targets[i] for i in group], self._options["batch"]
            )
            for i, picture in zip(group, pictures):
                through[i] = picture
        ceiling = {f"ceiling_{name}": values for name, values in self._score(through).items()}
        if self._constant is None:
            return ceiling
        constant = [_at_size(self._constant, target.shape[:2]) for target in self._targets]
        constants = segmentation.per_picture(constant, self._truth)
        return ceiling | {f"constant_{name}": values for name, values in constants.items()}

    def _score(self, pictures: Sequence[np.ndarray]) -> dict[str, list[float]]:
        palette, max_masks = self._options["palette"] or None, self._options["max_masks"]
        instances = [masks_lib.decode(picture, palette=palette, max_masks=max_masks) for picture in pictures]
        return segmentation.per_picture(instances, self._truth)


def _best_constant(source: Sequence[Example], n: int, on_bad: str, shape: tuple[int, int]) -> np.ndarray:
    """The map bool [K, H, W] that fits the first n pictures of a source best; of pictures of several sizes, at `shape`."""
    examples, _ = held_out.first(source, n, on_bad)
    if not examples:
        raise DataError(f"{source!r}: the best constant map needs training pictures, and there are none")
    known = [segmentation.true_instances(example) for example in examples]
    if len({instances.shape[1:] for instances in known}) > 1:
        known = [_at_size(instances, shape) for instances in known]
    return segmentation.best_constant_mask(known)


def _at_size(instances: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return instances if instances.shape[1:] == shape else masks_lib.resize_masks(instances, shape)
