"""How many items a difference needs to be seen, before anything is run; two-sided tests at 5 %, normal approximation.

The test for one model is of its accuracy against a known one (binomial); for two models on the same items it is McNemar's,
which only counts the items that one of them has right and the other wrong (discordant pairs). Where items come in groups, the
number grows by the design effect.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

ALPHA = 0.05
POWER = 0.8
DISCORDANT = 0.10  # of the items, where no two runs say how often they disagree


def items_for_one(accuracy: float, difference: float, power: float = POWER) -> int:
    """Items needed to tell `accuracy` + `difference` from a known `accuracy`, all as fractions."""
    other = accuracy + difference
    if not (0 < accuracy < 1 and 0 < other < 1 and difference):
        raise ValueError(f"accuracies {accuracy} and {other} must lie between 0 and 1, and differ")
    spread = _z(1 - ALPHA / 2) * math.sqrt(accuracy * (1 - accuracy)) + _z(power) * math.sqrt(other * (1 - other))
    return math.ceil((spread / difference) ** 2)


def power_of_one(items: int, accuracy: float, difference: float) -> float:
    """The chance to see the difference with so many items."""
    other = accuracy + difference
    threshold = _z(1 - ALPHA / 2) * math.sqrt(accuracy * (1 - accuracy) / items)
    spread = math.sqrt(other * (1 - other) / items)
    return _between(abs(difference), threshold, spread)


def items_for_two(discordant: float, difference: float, power: float = POWER) -> int:
    """Items needed for McNemar's test.

    Args:
      discordant: share of items that one model has right and the other wrong; at least |difference|.
      difference: of the accuracies, as a fraction.
    """
    if not 0 < abs(difference) <= discordant <= 1:
        raise ValueError(f"a difference of {difference} needs at least so many discordant pairs, not {discordant}")
    spread = _z(1 - ALPHA / 2) * math.sqrt(discordant) + _z(power) * math.sqrt(discordant - difference**2)
    return math.ceil((spread / difference) ** 2)


def power_of_two(items: int, discordant: float, difference: float) -> float:
    """The chance that McNemar's test sees the difference with so many items."""
    threshold = _z(1 - ALPHA / 2) * math.sqrt(discordant / items)
    spread = math.sqrt(max(discordant - difference**2, 0) / items)
    return _between(abs(difference), threshold, spread)


def design_effect(values: Sequence[float], groups: Sequence[Any] | None) -> float:
    """How many times larger the variance of the mean is because items come in groups; at least 1."""
    if groups is None or len(values) < 2:
        return 1.0
    centred = np.asarray(values, float) - np.mean(values)
    _, of_item = np.unique(np.asarray(groups), return_inverse=True)
    between = np.square(np.bincount(of_item, weights=centred)).sum()
    within = np.square(centred).sum()
    return float(max(1.0, between / within)) if within > 0 else 1.0


def discordance(a: Sequence[float], b: Sequence[float]) -> float:
    """The share of items that one of two runs has right and the other wrong."""
    return float(np.mean(np.asarray(a) != np.asarray(b)))


def mcnemar(a: Sequence[float], b: Sequence[float]) -> float:
    """The mid-p value of McNemar's test of two runs' hits (0 or 1) on the same items."""
    first, second = np.asarray(a, float), np.asarray(b, float)
    return mcnemar_of_counts(int((first > second).sum()), int((first < second).sum()))


def mcnemar_of_counts(up: int, down: int) -> float:
    """The same from the two kinds of discordant pairs."""
    if up + down == 0:
        return 1.0
    least, pairs = min(up, down), up + down
    below = scipy.special.bdtr(least - 1, pairs, 0.5) if least else 0.0
    return float(min(1.0, scipy.special.bdtr(least, pairs, 0.5) + below))


def _z(share: float) -> float:
    return float(scipy.stats.norm.ppf(share))


def _between(difference: float, threshold: float, spread: float) -> float:
    if spread == 0:
        return float(difference > threshold)
    law = scipy.stats.norm(difference, spread)
    return float(law.sf(threshold) + law.cdf(-threshold))
