"""The contrasts that docs/studies.md registered before the runs: paired over seeds, in their order, and what they decide.

A study's config may have `registered`: `kinds` (the score is the mean of their accuracies), `contrasts` (name -> (arm,
against)), `order`, `holm` (the names that share Holm's rule; the others are tested alone), `margin` (points, of equivalence),
`seeds`, and `wide` and `more` (if the first contrast's interval is wider than `wide` points, `more` seeds are run).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from sgt_jax.errors import ConfigError
from sgt_jax.evaluation.statistics import LEVEL, holm
from sgt_jax.study import gates
from sgt_jax.study.tables import Results

ALPHA = 1 - LEVEL


class Registered(NamedTuple):
    """One contrast, in points; what needs two seeds is NaN with fewer.

    Attributes:
      name, arm, against: as in the study's config.
      seeds: how many both arms have.
      points, low, high: mean difference and its t-interval over seeds.
      p: of the paired t-test, two-sided, and `adjusted` after Holm's rule where that was registered.
      equivalence: p of the two one-sided tests against the margin.
      width: of the interval at the registered number of seeds, in points; NaN before it is reached.
      differences: of each seed, in points.
    """

    name: str
    arm: str
    against: str
    seeds: int
    points: float
    low: float
    high: float
    p: float
    adjusted: float
    equivalence: float
    width: float = float("nan")
    differences: tuple[float, ...] = ()


def score(results: Results, arm: str, kinds: Sequence[str]) -> dict[int, float]:
    """{seed: mean accuracy of the kinds, each counting the same, percent}."""
    of_kinds = [gates.accuracies(results, arm, kind) for kind in kinds]
    return {seed: float(np.mean([of[seed] for of in of_kinds])) for seed in of_kinds[0]}


def contrasts(results: Results) -> list[Registered]:
    """The registered contrasts whose two arms share a seed, in the registered order."""
    plan = results.facts["registered"]
    found = []
    for name in plan["order"]:
        arm, against = plan["contrasts"][name]
        if arm in results.records and against in results.records:
            a, b = (score(results, each, plan["kinds"]) for each in (arm, against))
            if shared := sorted(set(a) & set(b)):
                differences = [a[s] - b[s] for s in shared]
                low, high = interval(np.asarray(differences[: plan["seeds"]]))
                width = high - low if len(shared) >= plan["seeds"] else float("nan")
                found.append(paired(name, arm, against, differences, plan["margin"])._replace(width=width))
    together = [c for c in found if c.name in plan["holm"]]
    known = [None if np.isnan(c.p) else c.p for c in together]
    for c, p in zip(together, holm(known), strict=True):
        found[found.index(c)] = c._replace(adjusted=float("nan") if p is None else p)
    return found


def paired(name: str, arm: str, against: str, differences: Sequence[float], margin: float) -> Registered:
    """One contrast from its differences, a seed each, in points."""
    d = np.asarray(differences, float)
    each = tuple(float(x) for x in d)
    if len(d) < 2 or not d.std():
        return Registered(name, arm, against, len(d), float(d.mean()), *[float("nan")] * 5, differences=each)
    low, high = interval(d)
    below = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
    above = stats.ttest_1samp(d, margin, alternative="less").pvalue
    p = float(stats.ttest_1samp(d, 0.0).pvalue)
    equivalence = float(max(below, above))
    return Registered(name, arm, against, len(d), float(d.mean()), low, high, p, p, equivalence, differences=each)


def interval(differences: np.ndarray) -> tuple[float, float]:
    """The t-interval of the mean of differences, a seed each; NaN with fewer than two, or if all are the same."""
    if len(differences) < 2 or not differences.std():
        return float("nan"), float("nan")
    found = stats.ttest_1samp(differences, 0.0).confidence_interval(LEVEL)
    return float(found.low), float(found.high)


def wanted_seeds(first: Registered, plan: Mapping[str, Any]) -> int:
    """How many seeds decide: as registered, or more of them if the first contrast's interval is too wide at those."""
    return plan["seeds"] + (plan["more"] if first.width > plan["wide"] else 0)


def sentence(found: Sequence[Registered], plan: Mapping[str, Any]) -> str:
    """What the contrasts say, in the words that were registered; before the registered number of seeds, nothing."""
    first = found[0] if found else None
    if first is None or first.name != plan["order"][0]:
        return f"No seed of the registered {plan['seeds']} has both arms of the first contrast yet: nothing is decided."
    wanted = wanted_seeds(first, plan)
    behind = [c for c in found if c.seeds < wanted]
    if behind or len(found) < len(plan["order"]):
        least = min((c.seeds for c in found), default=0) if len(found) == len(plan["order"]) else 0
        return f"{least} of {wanted} seeds have every arm so far: nothing is decided."
    verdicts = {c.name: verdict(c) for c in found}
    key = "first_" + verdicts[plan["order"][0]]
    words = [plan["sentences"][key]]
    words += [plan["sentences"][f"{name}_{verdicts[name]}"] for name in plan["order"][1:]]
    return " ".join(words)


def verdict(c: Registered) -> str:
    """A word: more, less, equal (within the margin) or open. A difference that is seen is told, however small it is."""
    if c.adjusted < ALPHA:
        return "more" if c.points > 0 else "less"
    return "equal" if c.equivalence < ALPHA else "open"


def markdown(results: Results) -> str:
    """The registered contrasts as a table, and the sentence, for a document."""
    plan = results.facts["registered"]
    if unknown := [a for pair in plan["contrasts"].values() for a in pair if a not in results.facts["arms"]]:
        raise ConfigError(f"config.registered names arms {unknown}; config.arms has {', '.join(results.facts['arms'])}")
    found = contrasts(results)
    lines = [
        "| contrast | seeds | points (95 % interval over seeds) | p | after Holm | equivalence, p |",
        "|---|---|---|---|---|---|",
    ]
    for c in found:
        numbers = "–" if np.isnan(c.low) else f"{c.low:+.1f} to {c.high:+.1f}"
        ps = ["–" if np.isnan(p) else f"{p:.2g}" for p in (c.p, c.adjusted, c.equivalence)]
        lines.append(f"| {c.arm} - {c.against} | {c.seeds} | {c.points:+.1f} ({numbers}) | {' | '.join(ps)} |")
    return "\n".join([*lines, "", sentence(found, plan)])
