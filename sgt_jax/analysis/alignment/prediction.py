"""Does the alignment of gradients before training predict what a proxy gains? One point for each proxy of a study."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from sgt_jax.errors import DataError
from sgt_jax.evaluation.statistics import Estimate
from sgt_jax.study import tables

LARGEST_EXACT = 8  # so many points have 40,320 orders, which can all be tried
SHUFFLES = 20_000


class Correlation(NamedTuple):
    """Of n pairs: Pearson's r, Spearman's rank correlation, and r's two-sided p-value over re-orderings of one side."""

    n: int
    pearson: float
    spearman: float
    p: float


def gains(results: tables.Results, proxies: Sequence[str]) -> dict[str, Estimate]:
    """What the arms of these names gain in overall understanding over the first arm of reference.

    Raises:
      DataError: fewer than three of them have results.
    """
    reference = results.facts["references"][0]
    wanted = {arm: s for arm, s in results.records.items() if arm in proxies or arm == reference}
    cells = tables.overall(results._replace(records=wanted)).cells
    known = {a: cells[a].against[reference].difference for a in proxies if a in cells and reference in cells[a].against}
    if len(known) < 3:
        raise DataError(
            f"a correlation needs three arms that are proxies of align.json and have results beside {reference}; "
            f"there are {', '.join(known) or 'none'} (arms: {', '.join(results.records)})"
        )
    return known


def correlation(x: Sequence[float], y: Sequence[float], seed: int = 0) -> Correlation:
    """How far two lists of numbers go together; see `Correlation`. One that is constant correlates with nothing."""
    a, b = np.asarray(x, float), np.asarray(y, float)
    if len(a) != len(b) or len(a) < 3:
        raise ValueError(f"a correlation needs three pairs or more, not {len(a)} and {len(b)} numbers")
    if not np.ptp(a) or not np.ptp(b):
        return Correlation(len(a), 0.0, 0.0, 1.0)
    a, b = ((v - v.mean()) / np.linalg.norm(v - v.mean()) for v in (a, b))
    r = float(a @ b)
    if len(a) <= LARGEST_EXACT:
        orders = np.array(list(itertools.permutations(range(len(a)))))
    else:
        rng = np.random.default_rng(seed)
        # The order that was observed is one of them, so that p is never 0.
        orders = np.stack([np.arange(len(a)), *(rng.permutation(len(a)) for _ in range(SHUFFLES - 1))])
    p = float(np.mean(np.abs(b[orders] @ a) >= abs(r) - 1e-12))
    spearman = float(scipy.stats.spearmanr(a, b).statistic)
    return Correlation(len(a), r, spearman, p)


def merged(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Proxy -> what `align` found on the model before training, of several files by their names.

    A file made with --before speaks of that checkpoint, any other of its only one.

    Raises:
      DataError: two files have the same proxy, or speak of different models or places.
    """
    entries: dict[str, Mapping[str, Any]] = {}
    about: dict[str, tuple] = {}
    for name, content in files.items():
        which = "before" if "before" in content else "checkpoint"
        about[name] = (content["options"][which], content["place"])
        for proxy, entry in content[which].items():
            if proxy in entries:
                raise DataError(f"{name}: proxy '{proxy}' is in another file, too")
            if not math.isfinite(entry["score"]):
                raise DataError(f"{name}: the score of '{proxy}' is not finite")
            entries[proxy] = entry
    if len(set(about.values())) > 1:
        said = "; ".join(f"{name}: {model}, {place}" for name, (model, place) in about.items())
        raise DataError(f"alignments of different models or places cannot be compared: {said}")
    return entries
