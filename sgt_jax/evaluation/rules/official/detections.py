"""GenEval's rules: detections in, verdicts out. Boxes and scores are float32, as the detector hands them over."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")


@dataclasses.dataclass(frozen=True)
class Options:
    """The settings of the official script."""

    threshold: float = 0.3
    counting_threshold: float = 0.9
    max_objects: int = 16
    max_overlap: float = 1.0  # 1 switches the suppression of overlapping boxes off
    position_threshold: float = 0.1
    all_colours: bool = False  # not official: objects of the wanted colour come first, so that one behind the best counts


class Found(NamedTuple):
    """One kept detection: float32 [5] (x1, y1, x2, y2, score), and the colour that the classifier gives its crop."""

    box: np.ndarray
    colour: str | None


class Verdict(NamedTuple):
    """Whether a picture shows what its prompt says, why not, and what was detected (class -> boxes with scores)."""

    correct: bool
    reason: str
    details: dict[str, list[list[float]]]


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes, pixels counted inclusively."""

    def area(box: Sequence[float]) -> float:
        return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)

    shared = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    union = area(a) + area(b) - shared
    return shared / union if union else 0


def relations(a: Sequence[float], b: Sequence[float], position_threshold: float = 0.1) -> set[str]:
    """How the first box stands to the second: none, one or two of "left of", "right of", "above", "below"."""
    boxes = np.asarray([a, b])[:, :4].reshape(2, 2, 2)
    centre_a, centre_b = boxes.mean(axis=-2)
    extents = np.abs(np.diff(boxes, axis=-2))[..., 0, :]
    offset = centre_a - centre_b
    shrunk = np.maximum(np.abs(offset) - position_threshold * (extents[0] + extents[1]), 0) * np.sign(offset)
    if np.all(np.abs(shrunk) < 1e-3):
        return set()
    dx, dy = shrunk / np.linalg.norm(offset)
    tests = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return {name for name, true in tests.items() if true}


def keep(detections: Sequence[Mapping[str, Any]], tag: str, options: Options) -> dict[str, list[Found]]:
    """class -> detections above the threshold, best first, at most `max_objects`, without overlapping ones if asked.

    Args:
      detections: each has `class`, `box` (x1, y1, x2, y2), `score` and perhaps `color`.
    """
    threshold = options.counting_threshold if tag == "counting" else options.threshold
    kept: dict[str, list[Found]] = {}
    for name in dict.fromkeys(d["class"] for d in detections):
        mine = [d for d in detections if d["class"] == name]
        boxes = np.array([[*d["box"], d["score"]] for d in mine], np.float32)
        order = np.argsort(boxes[:, 4])[::-1]
        waiting = order[boxes[order, 4] > threshold][: options.max_objects].tolist()
        found = []
        while waiting:
            best = waiting.pop(0)
            found.append(Found(boxes[best], mine[best].get("color")))
            waiting = [
                i for i in waiting
                if options.max_overlap == 1 or overlap(boxes[best], boxes[i]) < options.max_overlap
            ]  # fmt: skip
        if found:
            kept[name] = found
    return kept


def judge(
    metadata: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], options: Options | None = None
) -> Verdict:
    """The verdict on one picture.

    Args:
      metadata: a line of evaluation_metadata.jsonl.
      detections: as in `keep`.
    """
    options = options or Options()
    objects = keep(detections, metadata["tag"], options)
    reasons: list[str] = []
    groups: list[list[Found] | None] = []
    for part in metadata.get("include", []):
        found = objects.get(part["class"], [])
        if options.all_colours and "color" in part:
            found = sorted(found, key=lambda one: one.colour != part["color"])
        found = found[: part["count"]]
        why = _missing(part, found) or _misplaced(part, found, groups, options)
        reasons += [why] if why else []
        groups.append(None if why else found)
    for part in metadata.get("exclude", []):
        count = len(objects.get(part["class"], []))
        if count >= part["count"]:
            reasons.append(f"expected {part['class']}<{part['count']}, found {count}")
    details = {name: [one.box.tolist() for one in found] for name, found in objects.items()}
    return Verdict(not reasons, "\n".join(reasons), details)


def _missing(part: Mapping[str, Any], found: Sequence[Found]) -> str:
    """Why the wanted number of objects, in the wanted colour, is not there; only the best `count` are looked at."""
    if len(found) < part["count"]:
        return f"expected {part['class']}>={part['count']}, found {len(found)}"
    right = sum(one.colour == part["color"] for one in found) if "color" in part else part["count"]
    if right < part["count"]:
        return f"expected {part['color']} {part['class']}>={part['count']}, found {right} of that colour"
    return ""


def _misplaced(
    part: Mapping[str, Any], found: Sequence[Found], groups: Sequence[list[Found] | None], options: Options
) -> str:
    if "position" not in part:
        return ""
    wanted, target = part["position"]
    if groups[target] is None:
        return f"no target for {part['class']} to be {wanted}"
    for one in found:
        for other in groups[target]:
            if wanted not in relations(one.box, other.box, options.position_threshold):
                return f"expected {part['class']} {wanted} target"
    return ""


def summary(metadata: Sequence[Mapping[str, Any]], correct: Sequence[bool]) -> dict[str, Any]:
    """Counts and means: one entry of `metadata` per picture. Prompts with equal metadata count as one.

    "overall" is the plain mean of the tag means; "prompts_correct" the share of prompts with a right picture.
    """
    prompts: dict[str, bool] = {}
    tags: dict[str, list[bool]] = {}
    for entry, right in zip(metadata, correct, strict=True):
        key = json.dumps(entry)
        prompts[key] = prompts.get(key, False) or bool(right)
        tags.setdefault(entry["tag"], []).append(bool(right))
    means = {tag: float(np.mean(values)) for tag, values in tags.items()}
    return {
        "n_images": len(correct), "n_prompts": len(prompts), "tag_means": means,
        "tag_counts": {tag: (sum(values), len(values)) for tag, values in tags.items()},
        "overall": float(np.mean(list(means.values()))), "images_correct": float(np.mean(correct)),
        "prompts_correct": float(np.mean(list(prompts.values()))),
    }  # fmt: skip


def summary_text(found: Mapping[str, Any]) -> str:
    """The text that the official summary script prints."""
    lines = [
        "Summary", "=======", f"Total images: {found['n_images']}", f"Total prompts: {found['n_prompts']}",
        f"% correct images: {found['images_correct']:.2%}", f"% correct prompts: {found['prompts_correct']:.2%}", "",
        "Task breakdown", "==============",
    ]  # fmt: skip
    for tag, mean in found["tag_means"].items():
        right, n = found["tag_counts"][tag]
        lines.append(f"{tag:<16} = {mean:.2%} ({right} / {n})")
    return "\n".join([*lines, "", f"Overall score (avg. over tasks): {found['overall']:.5f}"]) + "\n"
