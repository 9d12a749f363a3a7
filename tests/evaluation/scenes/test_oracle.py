"""The judge of drawn pictures is right on true renders, tolerant of slight damage, and not fooled by wrong pictures."""

from collections import defaultdict

import numpy as np
import pytest
from scipy import ndimage

from sgt_jax.data.sources.scenes import drawing
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.evaluation.rules.geneval import Thing
from sgt_jax.evaluation.scenes.oracle import parse, score_picture

HARD = dict(size=64, max_objects=4, max_rotation=15.0, pattern_rate=0.3)
RICH = dict(size=64, max_objects=3, shapes=tuple(drawing.SHAPES), colours=tuple(drawing.COLOURS))


def rates(options, n=150, damage=lambda picture: picture):
    found = defaultdict(list)
    scenes = Scenes(split="test", **options)
    for i in range(n):
        e = scenes[i]
        for name, right in score_picture(e.extra["scene"], e.caption, damage(e.image)).items():
            if right is not None:
                found[name].append(right)
    assert len(found["relation"]) > n / 4
    return {name: np.mean(values) for name, values in found.items()}


@pytest.mark.parametrize("options", [{}, dict(max_objects=3), HARD, RICH], ids=["nano", "three", "hard", "rich"])
def test_true_renders_are_judged_right(options):
    found = rates(options)
    assert found["colours"] >= 0.97 and found["count"] >= 0.97 and found["relation"] >= 0.97, found
    assert found["exact"] >= 0.95 and found["objects"] >= found["exact"], found


def test_slight_damage_does_not_change_the_verdict():
    rng = np.random.default_rng(0)

    def damage(picture):
        soft = ndimage.gaussian_filter(picture.astype(float), (0.5, 0.5, 0))
        return np.clip(soft + rng.normal(0, 10, picture.shape), 0, 255).astype(np.uint8)

    found = rates({}, damage=damage)
    assert found["colours"] >= 0.95 and found["count"] >= 0.95 and found["exact"] >= 0.9, found


def test_centres_and_areas_are_measured():
    misses = []
    for i in range(60):
        e = Scenes()[i]
        scene = e.extra["scene"]
        things = parse(e.image, scene.colours, scene.shapes)
        assert [t.area for t in things] == sorted((t.area for t in things), reverse=True)
        for o in scene.objects:
            same = [t for t in things if t.colour == o.colour]
            nearest = min(same, key=lambda t: np.hypot(t.x - o.x, t.y - o.y))
            misses.append(np.hypot(nearest.x - o.x, nearest.y - o.y))
            assert abs(nearest.area - o.visible) <= max(8, 0.3 * o.visible)
    # Half a pixel, though some are part hidden.
    assert np.median(misses) < 0.6 / 32 and np.percentile(misses, 95) < 2 / 32


def test_pictures_of_nothing_are_not_right():
    for picture in (
        np.full((32, 32, 3), 110, np.uint8),
        np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8),
        np.zeros((32, 32, 3), np.uint8),
    ):
        verdict = score_picture(None, "a red circle left of a blue square", picture)
        assert not any(verdict.values()), verdict
    assert parse(np.full((32, 32, 3), 110, np.uint8)) == []


def test_other_scenes_pictures_are_not_right():
    scenes = Scenes(min_objects=2, split="test")
    verdicts = [score_picture(scenes.scene(i), scenes[i].caption, scenes[i + 1].image) for i in range(60)]
    assert np.mean([v["exact"] for v in verdicts]) < 0.05
    assert np.mean([v["colours"] for v in verdicts]) < 0.2
    assert np.mean([v["relation"] for v in verdicts if v["relation"] is not None]) < 0.2


RED, BLUE = Thing("red", "circle", 0.2, 0.5, 99, 1.0), Thing("blue", "square", 0.8, 0.5, 99, 1.0)


@pytest.mark.parametrize(
    ("caption", "things", "right"),
    [
        ("a red circle left of a blue square", [RED, BLUE], "objects colours count exact relation"),
        ("a red circle right of a blue square", [RED, BLUE], "objects colours count exact"),
        ("a red square left of a blue square", [RED, BLUE], "colours count relation"),
        ("a red circle left of a blue square", [RED, RED, BLUE], "objects colours relation"),
        ("a red circle left of a blue square", [RED], ""),
        ("two red circles", [RED], "colours"),
        ("two red circles", [RED, RED], "objects colours count exact"),
        ("a red circle and a blue square", [RED, BLUE, BLUE], "objects colours"),
        ("a green circle and a blue square", [RED, BLUE], "count"),
        # Equal colours: the shapes name the objects.
        (
            "a red circle left of a red square",
            [RED, BLUE._replace(colour="red")],
            "objects colours count exact relation",
        ),
        ("a red square left of a red circle", [RED, BLUE._replace(colour="red")], "objects colours count exact"),
        # Too close to call.
        ("a red circle left of a blue square", [RED, BLUE._replace(x=0.24)], "objects colours count exact"),
    ],
)
def test_verdicts(caption, things, right):
    verdict = score_picture(None, caption, things)
    assert {name for name, value in verdict.items() if value} == set(right.split())
    assert (verdict["relation"] is None) == (" of " not in caption)


def test_without_a_caption_the_scene_is_what_is_wanted():
    scene = Scenes().scene(0)
    things = [Thing(o.colour, o.shape, o.x, o.y, 9, 1.0) for o in scene.objects]
    assert score_picture(scene, None, things)["exact"]
    assert not score_picture(scene, None, things[1:])["exact"]
    assert score_picture(scene, None, Scenes()[0].image)["exact"]
    with pytest.raises(ValueError, match="needs a scene or a caption"):
        score_picture(None, None, things)
