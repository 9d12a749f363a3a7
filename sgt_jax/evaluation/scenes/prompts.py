"""GenEval's six kinds of prompts, about the shapes and colours of procedural scenes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.data.sources.scenes.phrases import RELATIONS, noun_phrase
from sgt_jax.evaluation.rules.geneval import TAGS


def prompts(
    n: int, shapes: Sequence[str], colours: Sequence[str], max_count: int = 4, seed: int = 0
) -> list[dict[str, Any]]:
    """Metadata of `n` prompts of each tag, all tags in turn; a pure function of the arguments."""
    rng = np.random.default_rng((4, seed))

    def some(options: Sequence[str], k: int) -> list[str]:
        return [options[i] for i in rng.choice(len(options), k, replace=False)]

    found = []
    for number in range(n):
        # Shapes take turns, so that every tag asks for each about equally often.
        first = shapes[number % len(shapes)]
        second = some([s for s in shapes if s != first], 1)[0]
        hues = some(colours, 2)
        for tag in TAGS:
            if tag == "single_object":
                include = [{"class": first, "count": 1}]
            elif tag == "two_object":
                include = [{"class": first, "count": 1}, {"class": second, "count": 1}]
            elif tag == "counting":
                include = [{"class": first, "count": int(rng.integers(2, max_count + 1))}]
            elif tag == "colors":
                include = [{"class": first, "count": 1, "color": hues[0]}]
            elif tag == "position":
                relation = RELATIONS[int(rng.integers(len(RELATIONS)))]
                include = [{"class": second, "count": 1}, {"class": first, "count": 1, "position": [relation, 0]}]
            else:
                include = [{"class": s, "count": 1, "color": c} for s, c in zip((first, second), hues, strict=True)]
            entry = {"tag": tag, "include": include, "prompt": wording(include)}
            if tag == "counting":
                entry["exclude"] = [{"class": first, "count": include[0]["count"] + 1}]
            found.append(entry)
    return found


def wording(include: Sequence[Mapping[str, Any]]) -> str:
    """The prompt of an `include` list, in the grammar of the scenes' captions."""
    phrases = [noun_phrase(part["count"], part.get("color"), part["class"]) for part in include]
    positioned = [
        (part["position"], phrase) for part, phrase in zip(include, phrases, strict=True) if "position" in part
    ]
    if not positioned:
        return " and ".join(phrases)
    ((relation, other), phrase), *_ = positioned
    return f"{phrase} {relation} {phrases[other]}"
