"""Does a model answer right about what it paints right? Answers split by the painting of the same picture, from raw files.

A study's config may have `conditional`: `painter` (the arm whose paintings split the pictures), `against` (an arm with the
same seeds that does not paint, on the same pictures) and `least` (panoptic quality from which a painting counts as right). A
picture that is hard to paint may be hard to answer about, too; what the painter gains beyond `against` on the same split is
not that. Pictures with equally many objects are compared.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from sgt_jax.data.sources import open_source
from sgt_jax.errors import ConfigError
from sgt_jax.study import registered
from sgt_jax.study.tables import Results, items

ANSWERS = dict(evaluator="answers", item="accuracy")
PAINTINGS = dict(evaluator="masks", item="pq")


class Split(NamedTuple):
    """An arm's answers on the pictures that the painter of the same seed painted right, and on the others; percent.

    Attributes:
      right, wrong: accuracies, means over seeds.
      points: of right over wrong at equal numbers of objects, a seed each, float [seeds].
    """

    arm: str
    right: float
    wrong: float
    points: np.ndarray


def objects(study: ConfigDict) -> np.ndarray:
    """How many objects each picture has that the arms paint, int [n].

    Raises:
      ConfigError: answers and masks are not of the same source, or fewer questions are asked than pictures painted.
    """
    asked, painted = (study.base.evaluators[spec["evaluator"]] for spec in (ANSWERS, PAINTINGS))
    if asked.source != painted.source or asked.n < painted.n:
        raise ConfigError(
            "config.conditional needs a question about every picture that is painted: give the evaluators 'answers' and "
            f"'masks' one source, not '{asked.source}' and '{painted.source}', and as many questions as pictures, or more"
        )
    source = open_source(study.base.data.sources[painted.source].to_dict())
    # A picture that the source refuses ends the evaluator of masks, so question i is about picture i.
    return np.array([len(source[i].classes) for i in range(painted.n)])


def splits(results: Results, plan: Mapping[str, Any], count: np.ndarray) -> list[Split]:
    """The painter and the arm that it is held against; `count` are the objects of each painted picture, int [n]."""
    painted, seeds = items(results, plan["painter"], PAINTINGS)
    shared = [seed for seed in seeds if seed in results.records[plan["against"]]]
    right = painted[[seeds.index(seed) for seed in shared]] >= plan["least"]
    found = []
    for arm in (plan["painter"], plan["against"]):
        answers, of = items(results, arm, ANSWERS)
        rows = 100 * answers[[of.index(seed) for seed in shared], : right.shape[1]]
        points = np.array([matched(row, split, count) for row, split in zip(rows, right, strict=True)])
        found.append(Split(arm, _mean(rows[right]), _mean(rows[~right]), points))
    return found


def matched(values: np.ndarray, split: np.ndarray, group: np.ndarray) -> float:
    """Mean of `values` where `split` holds less that where it does not, within groups; NaN if no group has both.

    Groups are weighed by the number of pairs that they are worth, n m / (n + m), as for the difference of two means.
    """
    differences, weights = [], []
    for name in np.unique(group):
        a, b = values[split & (group == name)], values[~split & (group == name)]
        if len(a) and len(b):
            differences.append(a.mean() - b.mean())
            weights.append(len(a) * len(b) / (len(a) + len(b)))
    return float(np.average(differences, weights=weights)) if weights else float("nan")


def markdown(results: Results, study: ConfigDict) -> str:
    """The split as a table for a document, with intervals over seeds."""
    plan = results.facts["conditional"]
    if missing := [arm for arm in (plan["painter"], plan["against"]) if arm not in results.records]:
        return f"Answers by own painting: no run of {', '.join(missing)} yet."
    found = splits(results, plan, objects(study))
    lines = [
        f"| answers right, percent | pictures that `{plan['painter']}` painted right (PQ from {plan['least']:g}) "
        "| the others | difference at equal numbers of objects (95 % over seeds) |",
        "|---|---|---|---|",
        *(f"| {s.arm} | {_percent(s.right)} | {_percent(s.wrong)} | {_interval(s.points)} |" for s in found),
    ]
    own, other = (split.points for split in found)
    lines.append(f"| {plan['painter']} beyond {plan['against']} | | | {_interval(own - other)} |")
    return "\n".join(lines)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _percent(value: float) -> str:
    return f"{value:.1f}" if np.isfinite(value) else "–"  # no picture is of this kind


def _interval(points: np.ndarray) -> str:
    known = points[np.isfinite(points)]
    if not len(known):
        return "–"
    low, high = registered.interval(known)
    between = "" if np.isnan(low) else f"{low:+.1f} to {high:+.1f}, "
    return f"{known.mean():+.1f} ({between}{len(known)} seed{'' if len(known) == 1 else 's'})"
