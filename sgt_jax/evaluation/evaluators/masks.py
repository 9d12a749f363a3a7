"""Segmentation maps painted from held-out photographs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.data.examples import Example, PlanItem
from sgt_jax.data.pictures import masks as masks_lib
from sgt_jax.data.pictures.resizing import to_canvas
from sgt_jax.data.proxies import make_pair
from sgt_jax.errors import DataError
from sgt_jax.evaluation.result import Result, paint
from sgt_jax.evaluation.rules import segmentation
from sgt_jax.evaluation.statistics import Score, compare


class Masks:
    """Segmentation maps painted from photographs, decoded to instances and matched with the true ones.

    Beside each score stand the ceiling (the true map passed through the autoencoder alone) and the best constant map.

    Options: source, n, train_source and train_n (for the constant map), proxy_options, palette, max_masks, seed, batch, show,
    and the sampler's steps, shift, text_scale.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        self._experiment, self._options = experiment, options
        source = experiment.source(options["source"])
        self._examples = [source[i] for i in range(min(options["n"], len(source)))]
        rng = np.random.default_rng(options["seed"])
        pairs = [make_pair("segmentation", e, rng, **options["proxy_options"]) for e in self._examples]
        canvases = experiment.canvases
        self._targets = [to_canvas(p.target, canvases, nearest=True) for p in pairs]
        encode = experiment.tokenizer.encode
        self._plans = [
            (PlanItem("vit_image", experiment.vit_size(p.condition)), PlanItem("text", list(encode(p.instruction))))
            for p in pairs
        ]
        self._truth = [_true_instances(e, t, options["palette"]) for e, t in zip(self._examples, self._targets)]
        train = experiment.source(options["train_source"])
        known = [train[i] for i in range(min(options["train_n"], len(train)))]
        known_truth = [_true_instances(e, None, options["palette"]) for e in known]
        self._constant = segmentation.best_constant_mask(known_truth)
        self._ceiling: dict[str, list[float]] | None = None

    def __call__(self, params: Any) -> Result:
        options, sampler = self._options, self._experiment.sampler
        painted: list[Any] = [None] * len(self._plans)
        through: list[Any] = [None] * len(self._plans)
        for shape in sorted({t.shape[:2] for t in self._targets}):
            group = [i for i, t in enumerate(self._targets) if t.shape[:2] == shape]
            pictures = paint(sampler, params, [self._plans[i] for i in group], shape, group, options)
            for i, picture in zip(group, pictures):
                painted[i] = picture
            if self._ceiling is None:
                for i, picture in zip(group, sampler.through_autoencoder(params, [self._targets[i] for i in group])):
                    through[i] = picture
        if self._ceiling is None:
            self._ceiling = {f"ceiling_{k}": v for k, v in self._score(through).items()}
            constant = [_constant_for(self._constant, t.shape[:2]) for t in self._targets]
            self._ceiling.update({f"constant_{k}": v for k, v in self._compare(constant).items()})
        items = {**self._score(painted), **self._ceiling, "picture": [e.name for e in self._examples]}
        show = range(min(options["show"], len(painted)))
        rows = [[self._examples[i].image, self._targets[i], painted[i]] for i in show]
        return Result(items, ("condition", "target", "prediction"), rows)

    def _score(self, pictures: Sequence[np.ndarray]) -> dict[str, list[float]]:
        return self._compare(
            [
                masks_lib.decode(p, palette=self._options["palette"], max_masks=self._options["max_masks"])
                for p in pictures
            ]
        )

    def _compare(self, found: Sequence[np.ndarray]) -> dict[str, list[float]]:
        return {
            "miou": [float(segmentation.matched_miou(f, t)) for f, t in zip(found, self._truth)],
            "pq": [float(segmentation.panoptic_quality(f, t).pq) for f, t in zip(found, self._truth)],
        }


def _true_instances(example: Example, target: np.ndarray | None, palette: Any) -> np.ndarray:
    """bool [N, h, w]: the source's instances, or those of its shipped colour map, at the target's size."""
    instances = example.masks
    if instances is None:
        if example.mask_picture is None:
            raise DataError(f"{example.name}: has neither instance masks nor a mask picture to score against")
        picture = example.mask_picture
        instances = masks_lib.decode(picture, palette=None)
    if target is not None and instances.shape[1:] != target.shape[:2]:
        instances = masks_lib.resize_masks(instances, target.shape[:2])
    return instances


def _constant_for(constant: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if constant.shape[1:] == shape:
        return constant
    return masks_lib.resize_masks(constant, shape)


def _mask_scores(after: dict, before: dict | None) -> list[Score]:
    words = {
        "baseline_name": "best constant mask",
        "ceiling_name": "true map through the autoencoder",
        "items": "held-out pictures",
        "unit": "%",
    }
    return [
        compare("segmentation", label, after[key], before=before and before[key], baseline=after[f"constant_{key}"],
                ceiling=after[f"ceiling_{key}"], **words)
        for key, label in (("miou", "mask mIoU"), ("pq", "panoptic quality (class-agnostic)"))
    ]  # fmt: skip
