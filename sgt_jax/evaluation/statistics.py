"""How sure a score is: intervals of means and proportions, paired differences, and the record that carries them.

Pure functions of per-item results. Everything random is seeded, so a report can be rebuilt to the digit.

An item's result is a number, or a pair (numerator, denominator) where the score is a ratio of sums over items, as
panoptic quality is. Items that are not independent (several questions about one picture) share a group, and groups
are resampled.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 4000
LEVEL = 0.95
# Draws are made in blocks of about this many indices, so that memory stays small for any number of items.
_BLOCK = 4_000_000
_KEPT = 20_000_000  # draws that are remembered; at two bytes each


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
      value: the mean, proportion, ratio or difference.
      n: how many items are behind it.
      low, high: ends of the interval at `LEVEL`.
      method: "bootstrap", "paired bootstrap" or "wilson".
    """

    value: float
    n: int
    low: float
    high: float
    method: str

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> "Estimate":
        return cls(**{f.name: d[f.name] for f in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class Score:
    """One measured quantity: after training, and what it should be compared with.

    Attributes:
      group: "understanding", "segmentation", "generation", ...: the section of the report it stands in.
      name: what was measured, in words: "answer accuracy".
      kind: the question kind or class it is about; "" for all together.
      after: the trained model.
      before: the same model before training.
      baseline: what a trivial rule reaches, and `baseline_name` says which.
      ceiling: what a perfect model could reach here, and `ceiling_name` says why not one.
      beside: another run that this one stands beside, and `beside_name` says which.
      over_before, over_baseline, over_beside: paired differences of `after` on the same items.
      items: what was counted, in words: "held-out questions".
      unit: "%" for a rate, "" for an index between 0 and 1 such as IoU, else the unit in words ("dB", "nats").
      lower_is_better: an error, not a success.
    """

    group: str
    name: str
    kind: str
    after: Estimate
    before: Estimate | None = None
    baseline: Estimate | None = None
    ceiling: Estimate | None = None
    over_before: Estimate | None = None
    over_baseline: Estimate | None = None
    beside: Estimate | None = None
    over_beside: Estimate | None = None
    baseline_name: str = ""
    beside_name: str = ""
    ceiling_name: str = ""
    items: str = "held-out items"
    unit: str = ""
    lower_is_better: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> "Score":
        fields = {f.name: d[f.name] for f in dataclasses.fields(cls) if f.name in d}
        return cls(**{k: Estimate.from_dict(v) if isinstance(v, Mapping) else v for k, v in fields.items()})


def estimate(items: Any, groups: Any = None, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean of `items` with its interval: Wilson for independent zeros and ones, the bootstrap for all else."""
    results = _pairs(items)
    if groups is None and _is_binary(results):
        return wilson(int(results[:, 0].sum()), len(results))
    value, low, high = _bootstrap([results], groups, resamples, seed)
    return Estimate(value, len(results), low, high, "bootstrap")


def difference(a: Any, b: Any, groups: Any = None, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Mean of `a` minus mean of `b`, results of the same items in the same order, with a paired bootstrap interval."""
    first, second = _pairs(a), _pairs(b)
    if len(first) != len(second):
        raise ValueError(f"a paired difference needs the same items: {len(first)} against {len(second)}")
    value, low, high = _bootstrap([first, second], groups, resamples, seed)
    return Estimate(value, len(first), low, high, "paired bootstrap")


@dataclasses.dataclass(frozen=True)
class Contrast:
    """How one arm of a study differs from another.

    Attributes:
      difference: its mean difference over seeds and items, with an interval that holds for both.
      p: of a t-test on the seeds' own differences; None with fewer than two seeds.
      seeds: how many seeds are behind it.
    """

    difference: Estimate
    p: float | None
    seeds: int


def contrast(a: Any, b: Any, groups: Any = None, *, resamples: int = RESAMPLES, seed: int = 0) -> Contrast:
    """Mean of `a` minus mean of `b`, arms that were run with several seeds and scored on the same items.

    Both seeds and items (or groups of items) are resampled: an interval over items alone would hold for these very runs
    only, and an interval over few seeds alone would be wide for want of degrees of freedom.

    Args:
      a, b: [seeds, items], the same seeds in the same order; `b` may have one row, an arm without a seed.
      groups: [items], which items are not independent.
    """
    return contrast_of_parts([(a, b, groups)], resamples=resamples, seed=seed)


def contrast_of_parts(parts: Sequence[tuple[Any, Any, Any]], *, resamples: int = RESAMPLES, seed: int = 0) -> Contrast:
    """The contrast of a plain mean of several scores, each given as (a, b, groups) of `contrast`.

    Seeds are resampled for all parts together, items within each part.
    """
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64), groups) for a, b, groups in parts]
    for first, second, _ in pairs:
        if first.ndim != 2 or second.shape not in (first.shape, (1, first.shape[-1])):
            raise ValueError(f"arms of different seeds or items: {list(first.shape)} against {list(second.shape)}")
    value, low, high = _bootstrap_seeds_and_items([(a - b, groups) for a, b, groups in pairs], resamples, seed)
    means = np.mean([a.mean(1) - b.mean(1) for a, b, _ in pairs], axis=0)
    p = None
    if len(means) > 1:
        import scipy.stats  # here: it takes a second, which most commands need not spend

        # Seeds that agree to the digit leave nothing to test: certain if they differ from zero, else no difference.
        p = float(scipy.stats.ttest_1samp(means, 0.0).pvalue) if np.ptp(means) else float(not means[0])
    items = sum(a.shape[1] for a, _, _ in pairs)
    return Contrast(Estimate(value, items, low, high, "bootstrap of seeds and items"), p, len(means))


def mean_over_seeds(items: Any, groups: Any = None, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean of results [seeds, items], with an interval over both; see `contrast`."""
    return mean_of_parts([(items, groups)], resamples=resamples, seed=seed)


def mean_of_parts(parts: Sequence[tuple[Any, Any]], *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The plain mean of several scores, each given as (items, groups) of `mean_over_seeds`."""
    results = [(np.asarray(items, np.float64), groups) for items, groups in parts]
    value, low, high = _bootstrap_seeds_and_items(results, resamples, seed)
    return Estimate(value, sum(r.shape[1] for r, _ in results), low, high, "bootstrap of seeds and items")


def over_runs(values: Sequence[float]) -> Estimate:
    """The mean of one number of several runs, with the interval of a t-test over runs; `n` counts the runs.

    Raises:
      ValueError: fewer than two runs, which have no interval.
    """
    if len(values) < 2:
        raise ValueError("an interval over runs needs two of them")
    import scipy.stats  # here: it takes a second, which most commands need not spend

    mean, n = float(np.mean(values)), len(values)
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(mean, n, mean - half, mean + half, "t-test over runs")


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values of several tests at once, by Holm's step-down rule; None stays None."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted


def _bootstrap_seeds_and_items(
    parts: Sequence[tuple[np.ndarray, Any]], resamples: int, seed: int
) -> tuple[float, float, float]:
    """Mean and percentile interval of the mean of several [seeds, items], seeds and (groups of) items resampled."""
    summed = []
    for results, groups in parts:
        if not results.shape[1]:
            raise ValueError("no items to average")
        counts = np.ones(results.shape[1])
        if groups is not None:
            names, member = np.unique(np.asarray(groups), return_inverse=True)
            counts = np.bincount(member, minlength=len(names)).astype(np.float64)
            results = np.stack([np.bincount(member, row, len(names)) for row in results])
        summed.append((results, counts))
    seeds = summed[0][0].shape[0]
    units = tuple(results.shape[1] for results, _ in summed)
    draws = []
    for blocks, chosen in (_cached_resamples if resamples * sum(units) <= _KEPT else _resampled)(
        units, seeds, resamples, seed
    ):
        per_seed = np.zeros(chosen.shape)
        for (results, counts), block in zip(summed, blocks, strict=True):
            sums = _sums(block, np.column_stack([results.T, counts]))
            per_seed += sums[:, :-1] / sums[:, -1:] / len(summed)
        draws.append(np.take_along_axis(per_seed, chosen, axis=1).mean(1))
    low, high = np.quantile(np.concatenate(draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = np.mean([results.sum() / (counts.sum() * seeds) for results, counts in summed])
    return float(value), float(low), float(high)


def _sums(drawn: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`drawn` [n, units] @ `values` [units, k] as float64: in single precision, which is quicker, where that is exact."""
    whole = np.array_equal(values, np.rint(values)) and len(values) * np.abs(values).max() < 1 << 24
    kind = np.float32 if whole else np.float64
    return (drawn.astype(kind) @ values.astype(kind)).astype(np.float64)


def _resampled(
    units: tuple[int, ...], seeds: int, resamples: int, seed: int
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """In blocks [n]: how often each unit of each part is drawn [n, units], and which seeds are [n, seeds]."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, block := max(1, _BLOCK // max(units))):
        n = min(block, resamples - start)
        weights = [rng.multinomial(u, np.full(u, 1 / u), size=n).astype(np.min_scalar_type(u)) for u in units]
        yield weights, rng.integers(0, seeds, (n, seeds))


@functools.lru_cache(maxsize=16)
def _cached_resamples(
    units: tuple[int, ...], seeds: int, resamples: int, seed: int
) -> list[tuple[list[np.ndarray], np.ndarray]]:
    """The same, remembered: every cell of a table is resampled alike, and drawing is nearly all of the work."""
    return list(_resampled(units, seeds, resamples, seed))


def wilson(successes: int, n: int) -> Estimate:
    """A proportion with the Wilson score interval, which stays honest at 0 and 1 where the bootstrap has no width."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} is no proportion")
    import scipy.stats  # here: it takes a second, which most commands need not spend

    interval = scipy.stats.binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return Estimate(successes / n, n, float(interval.low), float(interval.high), "wilson")


def compare(
    group: str,
    name: str,
    after: Any,
    *,
    before: Any = None,
    baseline: Any = None,
    ceiling: Any = None,
    groups: Any = None,
    seed: int = 0,
    **words: Any,
) -> Score:
    """The `Score` of per-item results: `after`, `before` and `baseline` of the same items, `ceiling` of any.

    `groups` says which items belong together (see the top of this file); `words` are further fields of `Score`: kind,
    baseline_name, ceiling_name, items, unit, lower_is_better.
    """

    def paired(other):
        return None if other is None else difference(after, other, groups, seed=seed)

    def single(items):
        return None if items is None else estimate(items, groups, seed=seed)

    return Score(
        group=group,
        name=name,
        kind=words.pop("kind", ""),
        after=single(after),
        before=single(before),
        baseline=single(baseline),
        ceiling=None if ceiling is None else estimate(ceiling, seed=seed),
        over_before=paired(before),
        over_baseline=paired(baseline),
        **words,
    )


def _pairs(items: Any) -> np.ndarray:
    """Per-item results as float64 [n, 2]: numerators and denominators."""
    array = np.asarray(items, np.float64)
    if array.ndim == 1:
        array = np.stack([array, np.ones_like(array)], axis=1)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise ValueError(f"per-item results are [n] or [n, 2] with n > 0, not {list(np.shape(items))}")
    if not np.isfinite(array).all():
        raise ValueError(f"item {int(np.argwhere(~np.isfinite(array))[0, 0])} has a result that is not finite")
    return array


def _is_binary(results: np.ndarray) -> bool:
    return bool((results[:, 1] == 1).all() and np.isin(results[:, 0], (0, 1)).all())


def _bootstrap(series: Sequence[np.ndarray], groups: Any, resamples: int, seed: int) -> tuple[float, float, float]:
    """Value and percentile interval of the first ratio of sums (minus the second, where there are two)."""
    if groups is not None:
        names, member = np.unique(np.asarray(groups), return_inverse=True)
        if len(member) != len(series[0]):
            raise ValueError(f"{len(member)} groups for {len(series[0])} items")
        # Sums per group are all that a resample of groups needs.
        series = [np.stack([np.bincount(member, s[:, c], len(names)) for c in (0, 1)], axis=1) for s in series]
    count = len(series[0])
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // count)
    draws = []
    for start in range(0, resamples, block):
        chosen = rng.integers(0, count, (min(block, resamples - start), count))
        draws.append(_statistic([s[chosen].sum(1) for s in series]))
    low, high = np.quantile(np.concatenate(draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(_statistic([s.sum(0) for s in series])), float(low), float(high)


def _statistic(sums: Sequence[np.ndarray]) -> np.ndarray:
    # An empty denominator (a resample without a single object) counts as zero.
    ratios = [s[..., 0] / np.where(s[..., 1] == 0, 1.0, s[..., 1]) for s in sums]
    return ratios[0] - ratios[1] if len(ratios) == 2 else ratios[0]
