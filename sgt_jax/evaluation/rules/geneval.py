"""GenEval's six kinds of prompts for procedural scenes, and its rules on what a parse of the drawn picture found.

A prompt's metadata have GenEval's form: {"tag", "include": [{"class", "count", "color"?, "position"?: [relation, index]}],
"exclude": [...], "prompt"}. Classes are shapes. The judge differs from GenEval's in its eyes alone: the exact parser of
`scenes/oracle.py` instead of a detector and CLIP.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.data.sources.scenes.phrases import RELATIONS

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
SHRINK = 0.1  # of the two extents: by how much an offset must be larger than nothing
BEYOND = 0.5  # of the length of the offset: a component this large is a relation


class Thing(NamedTuple):
    """An object that was found; centre and extents are in fractions of the side, the area in pixels."""

    colour: str
    shape: str
    x: float
    y: float
    area: int
    fit: float  # overlap with the best template, 0..1
    width: float = 0.0  # of what is seen of it
    height: float = 0.0


class Verdict(NamedTuple):
    """Whether a picture is what was asked for, and if not, why."""

    correct: bool
    reason: str


def judge(metadata: Mapping[str, Any], things: Sequence[Thing]) -> Verdict:
    """GenEval's rules: the wanted are there, in colour and place, and the excluded are not; what else is there is free."""
    reasons: list[str] = []
    matched: list[list[Thing]] = []
    for part in metadata["include"]:
        name, count = part["class"], part["count"]
        # The best detections first, as GenEval sorts by score.
        found = sorted((t for t in things if t.shape == name), key=lambda t: -t.fit)[:count]
        chosen: list[Thing] = []
        if len(found) < count:
            reasons.append(f"expected {name}>={count}, found {len(found)}")
        else:
            right = [t for t in found if part.get("color") in (None, t.colour)]
            if len(right) < count:
                reasons.append(f"expected {part['color']} {name}>={count}, found {len(right)} {part['color']}")
            else:
                chosen = found
                if "position" in part:
                    relation, other = part["position"]
                    if not matched[other]:
                        reasons.append(f"no target for {name} to be {relation}")
                        chosen = []
                    elif not all(relation in relations(t, o) for t in found for o in matched[other]):
                        reasons.append(f"expected {name} {relation} {metadata['include'][other]['class']}")
                        chosen = []
        matched.append(chosen)
    for part in metadata.get("exclude", ()):
        n = sum(t.shape == part["class"] for t in things)
        if n >= part["count"]:
            reasons.append(f"expected {part['class']}<{part['count']}, found {n}")
    return Verdict(not reasons, "\n".join(reasons))


def relations(a: Thing, b: Thing) -> set[str]:
    """How a stands to b: none, one or two of "left of", "right of", "above", "below"."""
    offset = np.array([a.x - b.x, a.y - b.y])
    extents = np.array([a.width + b.width, a.height + b.height])
    shrunk = np.maximum(np.abs(offset) - SHRINK * extents, 0) * np.sign(offset)
    if not shrunk.any():
        return set()
    dx, dy = shrunk / np.linalg.norm(offset)
    tests = (dx < -BEYOND, dx > BEYOND, dy < -BEYOND, dy > BEYOND)
    return {relation for relation, true in zip(RELATIONS, tests, strict=True) if true}


def tag_means(tags: Sequence[str], correct: Sequence[bool]) -> dict[str, float]:
    """Accuracy per tag, and "overall": their plain mean, as GenEval reports it."""
    tags, right = np.asarray(tags), np.asarray(correct, float)
    means = {tag: float(right[tags == tag].mean()) for tag in TAGS if (tags == tag).any()}
    return {**means, "overall": float(np.mean(list(means.values())))}
