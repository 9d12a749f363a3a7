"""How well a linear classifier separates two classes: a cross-validated probe, and measures of the classes themselves.

A picture of a feature space proves little, so every t-SNE map here stands beside these numbers. Features are float
[n, width], labels 0 or 1.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, silhouette_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sgt_jax.errors import DataError
from sgt_jax.evaluation import statistics

FOLDS, INNER_FOLDS = 5, 3
STRENGTHS = tuple(10.0**k for k in range(-4, 2))  # C of the logistic regression: the inverse of the L2 penalty


@dataclasses.dataclass(frozen=True)
class Separability:
    """What was found about one pair of classes in one feature space.

    Attributes:
      correct: int [n], whether the probe that never saw an example classified it rightly.
      accuracy: mean of `correct` with its interval.
      auc: area under the ROC curve, mean over the outer folds.
      separable: a hyperplane exists that has every example on its side.
      trivial: there are so few examples for so many dimensions (n <= 2 (rank + 1), Cover's capacity) that even random
        labels would more likely than not be separable: then `separable` says nothing.
      fisher: squared distance of the class means over the sum of the two classes' total variances.
      silhouette: mean silhouette of the two classes, -1 to 1.
    """

    correct: np.ndarray
    accuracy: statistics.Estimate
    auc: float
    separable: bool
    trivial: bool
    fisher: float
    silhouette: float

    def to_json(self) -> dict[str, Any]:
        """Everything but the single results."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "correct"}


@threadpool_limits.wrap(limits=1)  # many small matrices: threads cost ten times what they save
def separability(features: np.ndarray, labels: np.ndarray, seed: int = 0) -> Separability:
    """Measures one pair of classes; see `Separability`. The folds depend on the labels and the seed alone.

    Raises:
      DataError: not two classes with enough examples each for the folds, or features that are not finite.
    """
    features, labels = np.asarray(features, np.float64), np.asarray(labels)
    counts = np.bincount(labels, minlength=2)
    if len(counts) != 2 or counts.min() < FOLDS * 2:
        raise DataError(f"a probe needs two classes with at least {FOLDS * 2} pictures each, not {counts.tolist()}")
    if not np.isfinite(features).all():
        raise DataError("a feature is not finite: the checkpoint is damaged, or overflows in this dtype")
    correct, scores = np.zeros(len(labels), int), []
    for train, held_out in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features, labels):
        rotate = _rotation(features[train])
        decide = _fitted(rotate(features[train]), labels[train], seed)
        decision = decide(rotate(features[held_out]))
        correct[held_out] = (decision > 0) == labels[held_out]
        scores.append(roc_auc_score(labels[held_out], decision))
    whole = _rotation(features)(features)
    means, variances = zip(*((whole[labels == c].mean(0), whole[labels == c].var(0).sum()) for c in (0, 1)))
    return Separability(
        correct=correct,
        accuracy=statistics.estimate(correct),
        auc=float(np.mean(scores)),
        separable=linearly_separable(whole, labels),
        trivial=bool(len(labels) <= 2 * (np.linalg.matrix_rank(whole) + 1)),
        fisher=float(np.sum((means[0] - means[1]) ** 2) / max(sum(variances), 1e-12)),
        silhouette=float(silhouette_score(whole, labels)),
    )


def compared(before: Mapping[str, Separability], after: Mapping[str, Separability]) -> dict[str, statistics.Estimate]:
    """The change in accuracy per feature space, with an interval from a bootstrap over the same pictures."""
    return {name: statistics.difference(after[name].correct, before[name].correct) for name in after if name in before}


def linearly_separable(features: np.ndarray, labels: np.ndarray) -> bool:
    """Whether some (w, b) has label (2y - 1) (w x + b) >= 1 for all: a linear programme without an objective."""
    sign = (2 * np.asarray(labels) - 1)[:, None]
    constraints = -sign * np.column_stack([features, np.ones(len(features))])
    found = scipy.optimize.linprog(
        np.zeros(constraints.shape[1]), A_ub=constraints, b_ub=-np.ones(len(features)), bounds=(None, None)
    )
    return bool(found.success)


def _rotation(train: np.ndarray) -> Any:
    """Standardises, then rotates onto the axes that the examples span.

    An L2-regularised linear rule has its weights in the span of its examples, so nothing changes but the cost: wide
    features (3584 in BAGEL) become as many as there are examples.
    """
    scaler = StandardScaler().fit(train)
    if train.shape[1] <= len(train):
        return scaler.transform
    axes = np.linalg.svd(scaler.transform(train), full_matrices=False)[2].T
    return lambda x: scaler.transform(x) @ axes


def _fitted(features: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    """The decision function of a logistic regression whose strength an inner cross-validation chose."""
    inner = StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=seed)
    # Newton's method: a few steps of a small matrix, where lbfgs takes hundreds on classes that are nearly separable.
    model = LogisticRegression(solver="newton-cholesky", max_iter=200)
    search = GridSearchCV(model, {"C": STRENGTHS}, cv=inner, scoring="neg_log_loss")
    return search.fit(features, labels).decision_function
