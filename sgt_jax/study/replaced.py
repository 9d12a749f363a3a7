"""How many answers does a painting replace? SFT's score over the number of answers, read the other way round, from raw files.

A study's config may have `replaced`: `kinds` (the score is the mean of their accuracies), `pools` (numbers of answers, each
larger than the one before), `curve` (the arm of SFT at a pool, such as "sft_{:04d}"), `arms` (the others, likewise) and
`paintings` (how many each of these paints). Per seed, an arm's score is placed on the curve of the same seed, by straight
lines over the logarithm of the pool. A score beyond the curve's ends is placed at the end; the figure is then a bound.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from sgt_jax.errors import ConfigError
from sgt_jax.study import registered
from sgt_jax.study.tables import Results


class Replaced(NamedTuple):
    """An arm at one pool; arrays hold a seed each.

    Attributes:
      pool: answers that it had.
      as_good: log2 of how many times as many answers SFT needs for the same score.
      beyond: 1 or -1 where the score lies above or below all of SFT's, so that `as_good` is a bound; else 0.
    """

    arm: str
    pool: int
    as_good: np.ndarray
    beyond: np.ndarray


def placed(score: float, pools: Sequence[int], curve: Sequence[float]) -> tuple[float, int]:
    """(log2 of the pool at which a curve reaches a score, 0 or the side on which the score lies beyond it).

    Args:
      curve: the score of each pool; where it falls, it is taken as level (least squares).
    """
    rising = isotonic_regression(np.asarray(curve, float)).x
    if score < rising[0] or score > rising[-1]:
        return float(np.log2(pools[0] if score < rising[0] else pools[-1])), 1 if score > rising[-1] else -1
    # Of a level stretch the first pool: the fewest answers that are as good.
    keep = np.r_[True, np.diff(rising) > 0]
    return float(np.interp(score, rising[keep], np.log2(np.asarray(pools, float)[keep]))), 0


def every(results: Results, plan: Mapping[str, Any]) -> list[Replaced]:
    """Each arm at each pool, over the seeds that have it and the whole curve.

    Raises:
      ConfigError: the pools are not in rising order.
    """
    pools = list(plan["pools"])
    if len(pools) < 2 or sorted(set(pools)) != pools:
        raise ConfigError(f"config.replaced.pools={tuple(pools)}: give two or more numbers of answers, in rising order")

    def scores(name: str) -> dict[int, float]:
        return registered.score(results, name, plan["kinds"]) if name in results.records else {}

    curves = [scores(plan["curve"].format(pool)) for pool in pools]
    found = []
    for arm in plan["arms"]:
        for pool in pools:
            own = scores(arm.format(pool))
            if seeds := sorted(set(own).intersection(*curves)):
                at = [placed(own[s], pools, [curve[s] for curve in curves]) for s in seeds]
                as_good = np.array([place for place, _ in at]) - np.log2(pool)
                found.append(Replaced(arm.format(pool), pool, as_good, np.array([side for _, side in at])))
    return found


def markdown(results: Results) -> str:
    """The table for a document, with t-intervals over seeds."""
    plan = results.facts["replaced"]
    found = every(results, plan)
    if not found:
        return "Answers that a painting replaces: no seed has SFT at every pool and another arm yet."
    lines = [
        "| arm | answers | SFT needs so many times as many (95 % over seeds) | answers replaced by a painting |",
        "|---|---|---|---|",
    ]
    for r in found:
        low, high = 2.0 ** np.asarray(registered.interval(r.as_good))
        between = "" if np.isnan(low) else f"{low:.2g} to {high:.2g}, "
        seeds = f"{len(r.as_good)} seed{'' if len(r.as_good) == 1 else 's'}"
        mean = 2.0 ** float(r.as_good.mean())
        lines.append(
            f"| {r.arm} | {r.pool} | {_bound(r.beyond)}{mean:.2g} ({between}{seeds}{_said(r.beyond)}) "
            f"| {_bound(r.beyond)}{(mean - 1) * r.pool / plan['paintings']:.2g} |"
        )
    return "\n".join(lines)


def _bound(beyond: np.ndarray) -> str:
    """What stands before a figure of which some seeds are bounds."""
    above, below = (beyond > 0).any(), (beyond < 0).any()
    return "about " if above and below else "at least " if above else "at most " if below else ""


def _said(beyond: np.ndarray) -> str:
    words = [f"{int((beyond == side).sum())} {where} SFT's curve" for side, where in ((1, "above"), (-1, "below"))
             if (beyond == side).any()]  # fmt: skip
    return "".join(f", {word}" for word in words)
