"""What the autoencoder alone keeps of pictures and painted masks."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sgt_jax.data.pictures import masks as masks_lib
from sgt_jax.data.pictures.resizing import to_canvas
from sgt_jax.data.proxies import make_pair
from sgt_jax.evaluation.result import Items, Result, Title
from sgt_jax.evaluation.rules import segmentation
from sgt_jax.evaluation.statistics import Score, compare
from sgt_jax.evaluation.subject import Params, Subject


class Reconstructions:
    """Pictures and painted masks through the autoencoder alone: PSNR, and what of the instances comes back.

    Options:
      source, n: whose first n pictures are encoded.
      proxy_options, seed: of the proxy "segmentation" that paints the masks.
      palette, max_masks: colours and number of instances that masks are decoded with.
      show: pictures in the report.
    """

    TITLE = Title(
        "Pictures through the autoencoder alone",
        "Held-out pictures and their true masks, and what comes back of each.",
    )

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        self._subject, self._options = subject, options
        source = subject.source(options["source"])
        examples = [source[i] for i in range(min(options["n"], len(source)))]
        rng = np.random.default_rng(options["seed"])
        pairs = [make_pair("segmentation", example, rng, **options["proxy_options"]) for example in examples]
        self._photos = [to_canvas(example.image, subject.canvases) for example in examples]
        self._masks = [to_canvas(pair.target, subject.canvases, nearest=True) for pair in pairs]
        self._truth = [
            segmentation.true_instances(example, mask.shape[:2]) for example, mask in zip(examples, self._masks)
        ]

    def __call__(self, params: Params) -> Result:
        options = self._options
        photos = self._subject.through_autoencoder(params, self._photos)
        masks = self._subject.through_autoencoder(params, self._masks)
        instances = [
            masks_lib.decode(mask, palette=options["palette"], max_masks=options["max_masks"]) for mask in masks
        ]
        items = {
            "photo_psnr": [_psnr(a, b) for a, b in zip(photos, self._photos)],
            "mask_psnr": [_psnr(a, b) for a, b in zip(masks, self._masks)],
            **segmentation.per_picture(instances, self._truth),
        }
        show = range(min(options["show"], len(masks)))
        rows = [[self._photos[i], photos[i], self._masks[i], masks[i]] for i in show]
        return Result(items, ("picture", "through", "mask", "through"), rows)

    @staticmethod
    def scores(after: Items, before: Items | None) -> list[Score]:
        """PSNR of photos and masks, and the scores of the instances that are found in the masks that come back."""
        labels = (
            ("photo_psnr", "PSNR of pictures", "dB"),
            ("mask_psnr", "PSNR of painted masks", "dB"),
            ("miou", "mask mIoU", "%"),
            ("pq", "panoptic quality (class-agnostic)", "%"),
        )
        return [
            compare(
                "reconstruction", label, after[key], before=before and before[key], items="held-out pictures", unit=unit
            )
            for key, label, unit in labels
        ]


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two pictures uint8 [H, W, 3] in dB, at most that of an error of 0.1 grey levels."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / max(error, 1e-2)))
