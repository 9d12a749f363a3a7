"""GenEval on scenes: perfect pictures score 1, planted errors are found by kind, other prompts' pictures score little."""

import functools
from collections import Counter

import numpy as np
import pytest

from sgt_jax.data.sources.scenes.captions import parse_caption
from sgt_jax.data.sources.scenes.source import NANO_COLOURS, NANO_SHAPES, Scenes
from sgt_jax.data.sources.scenes.world import SceneObject
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.evaluation.rules.geneval import TAGS, Thing, judge, relations, tag_means
from sgt_jax.evaluation.scenes.geneval import prompts, wording
from sgt_jax.evaluation.scenes.oracle import parse

PROMPTS = prompts(30, NANO_SHAPES, NANO_COLOURS, max_count=4)
PAINTER = Scenes(size=64, max_objects=4)  # at 32 pixels the parser takes a small square for a circle now and then
CORNERS = [(0.25, 0.25), (0.75, 0.75), (0.25, 0.75), (0.75, 0.25)]
PLACES = {"left of": (0.2, 0.5), "right of": (0.8, 0.5), "above": (0.5, 0.2), "below": (0.5, 0.8)}


def picture(metadata, seed=0):
    """What the prompt asks for, painted by the scenes' own program."""
    rng, objects, corners = np.random.default_rng(seed), [], list(CORNERS)
    hues = [NANO_COLOURS[k] for k in rng.permutation(7)]  # each its own: neighbours of one colour would melt
    positioned = any("position" in part for part in metadata["include"])
    for part in metadata["include"]:
        for _ in range(part["count"]):
            colour = part.get("color") or hues.pop()
            if positioned:
                x, y = PLACES[part["position"][0]] if "position" in part else (0.5, 0.5)
            else:
                x, y = corners.pop(0)
            objects.append(SceneObject(part["class"], colour, "small", "plain", x, y, 0.15, 0.0, 1.0))
    return PAINTER._paint(objects, rng)[1]


def seen(metadata, seed=0):
    return parse(picture(metadata, seed), NANO_COLOURS, NANO_SHAPES)


@functools.cache
def perfect():
    """Of every prompt, what stands in a picture of it; made by the first test that asks, not while tests are collected."""
    return [seen(m, i) for i, m in enumerate(PROMPTS)]


def test_prompts_are_balanced_and_in_the_models_words():
    assert Counter(m["tag"] for m in PROMPTS) == dict.fromkeys(TAGS, 30)
    encode = Tokenizer.nano().encode
    for m in PROMPTS:
        assert 0 not in encode(m["prompt"]) and m["prompt"] == wording(m["include"])
        asked = Counter({(c, s): n for n, c, s in parse_caption(m["prompt"]).groups})
        assert asked == Counter({(p.get("color"), p["class"]): p["count"] for p in m["include"]})
    assert prompts(30, NANO_SHAPES, NANO_COLOURS) == PROMPTS != prompts(30, NANO_SHAPES, NANO_COLOURS, seed=1)


def test_perfect_pictures_score_one():
    wrong = [(m["prompt"], v.reason) for m, t in zip(PROMPTS, perfect()) if not (v := judge(m, t)).correct]
    assert not wrong
    assert tag_means([m["tag"] for m in PROMPTS], [True] * len(PROMPTS)) == dict.fromkeys((*TAGS, "overall"), 1.0)


def test_pictures_of_other_prompts_score_by_chance():
    order = np.random.default_rng(0).permutation(len(PROMPTS))
    right = [judge(m, perfect()[k]).correct for m, k in zip(PROMPTS, order)]
    means = tag_means([m["tag"] for m in PROMPTS], right)
    # A third of all pictures hold any one shape or more, a sixth of those the right colour.
    assert means["single_object"] < 0.8 and means["color_attr"] < 0.15 and means["position"] < 0.3
    assert 0.05 < means["overall"] < 0.4


BREAK = {
    "single_object": ("remove", "expected {0}>=1, found 0"),
    "two_object": ("remove", "expected {0}>=1, found 0"),
    "counting": ("add", "expected {0}<{1}, found {1}"),
    "colors": ("recolour", "found 0 {2}"),
    "position": ("mirror", "expected {3} {4} {0}"),
    "color_attr": ("recolour", "found 0 {2}"),
}


@pytest.mark.parametrize("tag", TAGS)
def test_planted_errors_are_found_by_kind(tag):
    damage, message = BREAK[tag]
    for m, things in zip(PROMPTS, perfect()):
        if m["tag"] != tag:
            continue
        first = m["include"][0]
        mine = [t for t in things if t.shape == first["class"]]
        broken = {
            "remove": [t for t in things if t is not mine[0]],
            "add": [*things, mine[0]],
            "recolour": [
                t._replace(colour="green" if t.colour == "red" else "red") if t in mine else t for t in things
            ],
            "mirror": [t._replace(x=1 - t.x, y=1 - t.y) for t in things],
        }[damage]
        verdict = judge(m, broken)
        last = m["include"][-1]
        words = (first["class"], first["count"] + 1, first.get("color"), last["class"], last.get("position", [""])[0])
        assert not verdict.correct and message.format(*words) in verdict.reason, verdict
    assert judge(PROMPTS[2], []).reason.startswith("expected")


def test_relations_follow_the_shrunken_offset():
    a = Thing("red", "circle", 0.2, 0.5, 9, 1.0, 0.2, 0.2)
    for x, y, expected in ((0.8, 0.5, {"left of"}), (0.2, 0.1, {"below"}), (0.7, 0.9, {"left of", "above"}),
                           (0.23, 0.5, set()), (0.2, 0.5, set())):  # fmt: skip
        assert relations(a, a._replace(x=x, y=y)) == expected
    # Three times as far right as down: only "left of" is more than half of the offset.
    assert relations(a, a._replace(x=0.8, y=0.7)) == {"left of"}
