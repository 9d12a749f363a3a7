"""Do the gradients of two losses agree? Cosines between mean gradients, plain and in the subspace that both losses share.

Pure functions of per-example gradients, float [n, P]: example i of both losses is about the same picture.
"""

import dataclasses
from typing import Any

import numpy as np

from sgt_jax.errors import DataError
from sgt_jax.evaluation import statistics

ENERGY = 0.99


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How the gradients of two losses stand to each other.

    Attributes:
      cosine: between the mean gradients, with an interval from a bootstrap over the examples.
      projected: the same after projection on the first `components` directions of a shared uncentred PCA that keep
        99 % of the energy; each loss's gradients are first scaled to a mean square norm of 1, so that neither rules.
      components: how many directions that takes.
      effective_dimension: participation ratio of the energies e of those directions, (sum e)^2 / sum e^2.
      score: `projected` times the root of `effective_dimension`. Two unrelated directions among d have a cosine of about
        1 / sqrt(d): so the score counts in units of that.
      per_example: mean cosine of the two gradients of one example.
      reliability: for either loss, the cosine between the mean gradients of two halves of its own examples: what noise
        alone leaves of a perfect 1.
    """

    cosine: statistics.Estimate
    projected: float
    components: int
    effective_dimension: float
    score: float
    per_example: float
    reliability: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """As plain numbers."""
        return dataclasses.asdict(self)


def alignment(first: np.ndarray, second: np.ndarray, seed: int = 0, resamples: int = 1000) -> Alignment:
    """The alignment of two losses from their per-example gradients [n, P] and [n, P].

    Raises:
      DataError: a gradient is not finite, or all are zero.
    """
    first, second = (_scaled(np.asarray(x, np.float64)) for x in (first, second))
    if first.shape != second.shape or len(first) < 4:
        raise ValueError(f"gradients of the same four or more examples, not {first.shape} and {second.shape}")
    # Everything below needs inner products only, so the width does not matter: work in the span of the examples.
    basis, energies = _principal(np.concatenate([first, second]))
    first, second = first @ basis, second @ basis
    count = int(np.searchsorted(np.cumsum(energies) / energies.sum(), ENERGY - 1e-12)) + 1
    kept = energies[:count]
    projected = cosine(first[:, :count].mean(0), second[:, :count].mean(0))
    dimension = float(kept.sum() ** 2 / np.sum(kept**2))
    value = cosine(first.mean(0), second.mean(0))
    chosen = np.random.default_rng(seed).integers(0, len(first), (resamples, len(first)))
    draws = [cosine(first[rows].mean(0), second[rows].mean(0)) for rows in chosen]
    low, high = np.quantile(draws, [(1 - statistics.LEVEL) / 2, (1 + statistics.LEVEL) / 2])
    return Alignment(
        cosine=statistics.Estimate(value, len(first), float(low), float(high), "paired bootstrap"),
        projected=projected,
        components=count,
        effective_dimension=dimension,
        score=projected * dimension**0.5,
        per_example=float(np.mean([cosine(a, b) for a, b in zip(first, second)])),
        reliability=tuple(cosine(x[::2].mean(0), x[1::2].mean(0)) for x in (first, second)),
    )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of two vectors; 0 if one of them is zero."""
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths else 0.0


def _scaled(gradients: np.ndarray) -> np.ndarray:
    square = np.mean(np.sum(gradients**2, axis=1))
    if not np.isfinite(square):
        raise DataError("a gradient is not finite: the checkpoint is damaged, or overflows in this dtype")
    if not square:
        raise DataError("all gradients are zero: the loss does not reach what was chosen; look at another place")
    return gradients / square**0.5


def _principal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Uncentred PCA of [n, P]: an orthonormal basis [P, min(n, P)] of the rows' span, largest energy first; energies."""
    _, values, axes = np.linalg.svd(x, full_matrices=False)
    return axes.T, values**2
