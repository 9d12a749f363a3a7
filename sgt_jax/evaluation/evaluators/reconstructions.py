"""What the autoencoder alone keeps of photographs and painted masks."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sgt_jax.data.pictures import masks as masks_lib
from sgt_jax.data.pictures.resizing import to_canvas
from sgt_jax.data.proxies import make_pair
from sgt_jax.evaluation.evaluators.masks import _true_instances
from sgt_jax.evaluation.result import Result
from sgt_jax.evaluation.rules import segmentation


class Reconstructions:
    """Photos and painted masks through the autoencoder alone: PSNR, and what of the instances comes back.

    Options: source, n, proxy_options, palette, max_masks, seed, show.
    """

    def __init__(self, experiment: Any, options: Mapping[str, Any]) -> None:
        self._experiment, self._options = experiment, options
        source = experiment.source(options["source"])
        self._examples = [source[i] for i in range(min(options["n"], len(source)))]
        rng = np.random.default_rng(options["seed"])
        pairs = [make_pair("segmentation", e, rng, **options["proxy_options"]) for e in self._examples]
        self._photos = [to_canvas(e.image, experiment.canvases) for e in self._examples]
        self._masks = [to_canvas(p.target, experiment.canvases, nearest=True) for p in pairs]
        self._truth = [_true_instances(e, t, options["palette"]) for e, t in zip(self._examples, self._masks)]

    def __call__(self, params: Any) -> Result:
        sampler = self._experiment.sampler
        photos = sampler.through_autoencoder(params, self._photos)
        masks = sampler.through_autoencoder(params, self._masks)
        found = [
            masks_lib.decode(m, palette=self._options["palette"], max_masks=self._options["max_masks"]) for m in masks
        ]
        items = {
            "photo_psnr": [_psnr(a, b) for a, b in zip(photos, self._photos)],
            "mask_psnr": [_psnr(a, b) for a, b in zip(masks, self._masks)],
            "miou": [float(segmentation.matched_miou(f, t)) for f, t in zip(found, self._truth)],
            "pq": [float(segmentation.panoptic_quality(f, t).pq) for f, t in zip(found, self._truth)],
        }
        rows = [
            [self._photos[i], photos[i], self._masks[i], masks[i]]
            for i in range(min(self._options["show"], len(masks)))
        ]
        return Result(items, ("photo", "through", "mask", "through"), rows)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / max(error, 1e-2)))
