"""How well painted masks agree with the true ones: pure functions on masks bool [N, H, W].

All scores are class-agnostic and do not depend on colours. `matched_miou` looks at each true mask; panoptic quality and
boundary F also punish what was painted too much; the adjusted Rand index compares partitions of the pixels.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures.masks import decode, from_labels, resize_masks, visible
from sgt_jax.errors import DataError


def true_instances(example: Example, shape: tuple[int, int] | None = None) -> np.ndarray:
    """The instances of an example, bool [N, h, w]: its masks, or those of the colour map that its source ships.

    Args:
      example: with masks or a mask picture.
      shape: (height, width) to resize them to; None keeps the source's.

    Raises:
      DataError: it has neither.
    """
    instances = example.masks
    if instances is None:
        if example.mask_picture is None:
            raise DataError(f"{example.name}: has neither instance masks nor a mask picture to score against")
        instances = decode(example.mask_picture, palette=None)
    if shape not in (None, instances.shape[1:]):
        return resize_masks(instances, shape)
    return np.asarray(instances)  # sources of files give runs


def iou_matrix(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of masks bool [N, H, W] and [M, H, W], float64 [N, M]; two empty masks have 0."""
    if predicted.shape[1:] != truth.shape[1:]:
        raise ValueError(f"masks of different sizes: {predicted.shape[1:]} and {truth.shape[1:]}")
    if not len(predicted) or not len(truth):
        return np.zeros((len(predicted), len(truth)))
    a, b = (m.reshape(len(m), -1).astype(np.float32) for m in (predicted, truth))
    both = (a @ b.T).astype(np.float64)
    either = a.sum(1, dtype=np.float64)[:, None] + b.sum(1, dtype=np.float64) - both
    return both / np.maximum(either, 1)


def matched_ious(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of every true mask with its partner in the best one-to-one assignment, float64 [M]; 0 without a partner."""
    iou = iou_matrix(predicted, truth)
    matched = np.zeros(len(truth))
    rows, columns = linear_sum_assignment(-iou)
    matched[columns] = iou[rows, columns]
    return matched


def matched_miou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean IoU of the true masks after Hungarian matching. Nothing to find: 1 if nothing was painted, else 0.

    What was painted too much costs nothing, so a constant grid of four cells gets 0.3 on scenes of one or two objects:
    read it beside the constant's score, or read panoptic quality.
    """
    return float(matched_ious(predicted, truth).mean()) if len(truth) else float(not len(predicted))


class Panoptic(NamedTuple):
    """Panoptic quality as its counts: those of several pictures are added (`+`) before a data set's quality is read."""

    iou: float = 0.0
    matched: int = 0
    unmatched_predicted: int = 0
    unmatched_truth: int = 0

    def __add__(self, other: "Panoptic") -> "Panoptic":  # type: ignore[override]
        return Panoptic(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the matched."""
        return self.iou / self.matched if self.matched else 0.0

    @property
    def rq(self) -> float:
        """Recognition quality: F1 of the matching."""
        total = self.matched + 0.5 * (self.unmatched_predicted + self.unmatched_truth)
        return self.matched / total if total else 1.0

    @property
    def pq(self) -> float:
        """SQ x RQ; 1 if there was nothing to find and nothing was painted."""
        nothing = not (self.matched or self.unmatched_predicted or self.unmatched_truth)
        return 1.0 if nothing else self.sq * self.rq


def panoptic_quality(predicted: np.ndarray, truth: np.ndarray) -> Panoptic:
    """Matches at IoU > 0.5. Masks that overlap are made disjoint first (small over large): then matches are unique."""
    iou = iou_matrix(from_labels(visible(predicted)), from_labels(visible(truth)))
    hits = iou > 0.5
    matched = int(hits.sum())
    return Panoptic(float(iou[hits].sum()), matched, iou.shape[0] - matched, iou.shape[1] - matched)


def boundary_f(predicted: np.ndarray, truth: np.ndarray, tolerance: float = 0.0075) -> float:
    """F score of region borders: a border pixel counts if the other side has one within `tolerance` of the diagonal.

    The tolerance is at least 1.5 pixels, so that diagonal neighbours count in small pictures.
    """
    ours, true = (_borders(visible(m)) for m in (predicted, truth))
    if not ours.any() or not true.any():
        return float(not ours.any() and not true.any())
    reach = max(tolerance * float(np.hypot(*true.shape)), 1.5)
    precision = (ndimage.distance_transform_edt(~true)[ours] <= reach).mean()
    recall = (ndimage.distance_transform_edt(~ours)[true] <= reach).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _borders(labels: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour has another label."""
    border = np.zeros(labels.shape, bool)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    return border


def adjusted_rand(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Adjusted Rand index of the two partitions of the pixels; what no mask claims is one more part."""
    from sklearn.metrics import adjusted_rand_score  # two seconds, which every command would take before its first line

    return float(adjusted_rand_score(visible(truth).ravel(), visible(predicted).ravel()))


def scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """All scores of one picture."""
    panoptic = panoptic_quality(predicted, truth)
    return {
        "miou": matched_miou(predicted, truth),
        "pq": panoptic.pq,
        "sq": panoptic.sq,
        "rq": panoptic.rq,
        "boundary_f": boundary_f(predicted, truth),
        "adjusted_rand": adjusted_rand(predicted, truth),
    }


def per_picture(predicted: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """Matched mIoU and panoptic quality of each of n pictures: {"miou": [n], "pq": [n]}; masks bool [N, H, W] each."""
    return {
        "miou": [float(matched_miou(p, t)) for p, t in zip(predicted, truth, strict=True)],
        "pq": [float(panoptic_quality(p, t).pq) for p, t in zip(predicted, truth, strict=True)],
    }


def best_constant_mask(instances: Sequence[np.ndarray]) -> np.ndarray:
    """The best answer that ignores the photo: masks bool [K, H, W] (not overlapping, K may be 0).

    Chosen by mean matched IoU over `instances` (masks bool [N, H, W] of training pictures of one size) among: nothing,
    the whole picture, centred discs, halves, quarters, and where masks are frequent. A model that looks at its photo
    must beat it.
    """
    if not len(instances):
        raise ValueError("best_constant_mask needs at least one picture")
    shape = instances[0].shape[1:]
    guesses = [from_labels(labels) for labels in _constants(shape, instances)]
    means = [np.mean([matched_miou(guess, truth) for truth in instances]) for guess in guesses]
    return guesses[int(np.argmax(means))]


def _constants(shape: tuple[int, int], instances: Sequence[np.ndarray]) -> Iterable[np.ndarray]:
    height, width = shape
    y, x = np.mgrid[:height, :width]
    right, lower = (x >= width / 2).astype(np.int32), (y >= height / 2).astype(np.int32)
    yield np.zeros(shape, np.int32)
    yield np.ones(shape, np.int32)
    yield from (right + 1, lower + 1, 2 * lower + right + 1)
    distance = np.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5)
    for radius in np.arange(0.1, 0.7, 0.05):
        disc = distance < radius
        yield disc.astype(np.int32)
        yield np.where(disc, right + 1, 0)
        yield np.where(disc, 2, 1)
    covered = np.mean([m.any(0) for m in instances], axis=0)
    for share in (0.2, 0.35, 0.5, 0.65, 0.8):
        yield (covered >= share * covered.max()).astype(np.int32) if covered.max() else np.zeros(shape, np.int32)
