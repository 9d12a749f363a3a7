"""POPE's protocol: does a model say yes to things that are not there, above all to common ones and to usual company?

About every picture as many absent as present classes are asked for. Absent ones are drawn three ways: at random, the most
*popular* of the whole data set, and the *adversarial* ones that most often go with what is there. Classes are any hashable
things; for procedural scenes they are (colour, shape).
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

CATEGORIES = ("random", "popular", "adversarial")


class Habits(NamedTuple):
    """How a data set's world is, from the classes in its pictures.

    Attributes:
      classes: all there are, the commonest first.
      together: class -> how many pictures show each other class beside it.
    """

    classes: tuple[Hashable, ...]
    together: dict[Hashable, Counter]


class Poll(NamedTuple):
    """One question about one picture."""

    picture: int
    category: str  # of CATEGORIES
    asked: Hashable
    present: bool


def habits(pictures: Sequence[Sequence[Hashable]], classes: Sequence[Hashable] = ()) -> Habits:
    """Counts what `pictures` (lists of the classes seen in each) show; `classes` adds those that never occur."""
    number: Counter = Counter({c: 0 for c in classes})
    together: dict[Hashable, Counter] = {}
    for picture in pictures:
        seen = set(picture)
        number.update(seen)
        for one in seen:
            together.setdefault(one, Counter()).update(seen - {one})
    return Habits(tuple(c for c, _ in number.most_common()), together)


def polls(pictures: Sequence[Sequence[Hashable]], known: Habits, per_picture: int = 3, seed: int = 0) -> list[Poll]:
    """Balanced questions about every picture: per category up to `per_picture` present and equally many absent classes.

    The present ones are the same in all categories, as in POPE.
    """
    found = []
    for number, picture in enumerate(pictures):
        rng = np.random.default_rng((5, seed, number))
        present = sorted(set(picture), key=known.classes.index)
        absent = [c for c in known.classes if c not in set(picture)]  # the commonest first
        k = min(per_picture, len(present), len(absent))
        yes = [present[i] for i in rng.choice(len(present), k, replace=False)]
        company: Counter = Counter()
        for c in present:
            company.update(known.together.get(c, {}))
        chosen = {
            "random": [absent[i] for i in rng.choice(len(absent), k, replace=False)],
            "popular": absent[:k],
            "adversarial": sorted(absent, key=lambda c: -company[c])[:k],
        }
        for category in CATEGORIES:
            found += [Poll(number, category, c, True) for c in yes]
            found += [Poll(number, category, c, False) for c in chosen[category]]
    return found


def says_yes(answer: str) -> bool:
    """POPE's reading: only the first sentence counts, and everything that does not say no is a yes."""
    words = answer.split(".")[0].replace(",", "").lower().split()
    return not {"no", "not"} & set(words)


def scores(said_yes: Sequence[bool], present: Sequence[bool]) -> dict[str, float]:
    """accuracy, precision, recall, f1 and yes_ratio of one category; precision and F1 are 0 where they have no meaning."""
    said, true = np.asarray(said_yes, bool), np.asarray(present, bool)
    if said.shape != true.shape or not said.size:
        raise ValueError(f"{said.size} answers for {true.size} questions")
    hits = int((said & true).sum())
    precision = hits / said.sum() if said.any() else 0.0
    recall = hits / true.sum() if true.any() else 0.0
    return {
        "accuracy": float((said == true).mean()),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(2 * precision * recall / (precision + recall)) if hits else 0.0,
        "yes_ratio": float(said.mean()),
    }
