"""The probe on toy classes whose answer is known, reproducible maps, and the pictures of two classes. No JAX."""

import numpy as np
import pytest
from PIL import Image

from sgt_jax.analysis import questions
from sgt_jax.analysis.separability import pairs as separability_pairs
from sgt_jax.analysis.separability.maps import t_sne
from sgt_jax.analysis.separability.probes import compared, linearly_separable, separability
from sgt_jax.data.examples import Example
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.errors import DataError

LABELS = np.arange(120) % 2


def toy(distance, width=8, seed=0):
    """Two normal clouds whose centres are `distance` apart."""
    x = np.random.default_rng(seed).standard_normal((len(LABELS), width))
    x[:, 0] += distance * LABELS
    return x


def test_separable_classes_are_found_separable():
    found = separability(toy(9), LABELS)
    assert found.accuracy.value >= 0.99 and found.auc > 0.99 and found.separable and not found.trivial
    assert found.silhouette > 0.1  # seven of the eight axes carry nothing


def test_fisher_ratio_of_numbers_done_by_hand():
    # Means 1 and 11, variances 1 and 1: 10 ** 2 / (1 + 1), whatever the scale.
    found = separability(np.tile([[0.0], [2.0], [10.0], [12.0]], (10, 1)), np.tile([0, 0, 1, 1], 10))
    assert found.fisher == pytest.approx(50) and found.correct.all()


def test_shuffled_labels_are_at_chance():
    labels = np.random.default_rng(1).permutation(LABELS)
    found = separability(toy(9), labels)
    # Four standard errors of a proportion of 120 about a half.
    assert abs(found.accuracy.value - 0.5) < 4 * 0.5 / np.sqrt(120) and abs(found.auc - 0.5) < 0.25
    assert not found.separable and abs(found.silhouette) < 0.05 and found.fisher < 0.02


def test_more_dimensions_than_pictures_are_trivially_separable_and_change_no_rule():
    noise = separability(np.random.default_rng(2).standard_normal((120, 400)), LABELS)
    assert noise.separable and noise.trivial and abs(noise.accuracy.value - 0.5) < 0.2
    # 400 dimensions of which only 8 carry anything: the same rule as in 8, so the same verdicts.
    wide = toy(2.5) @ np.linalg.qr(np.random.default_rng(3).standard_normal((400, 8)))[0].T
    assert separability(wide, LABELS).accuracy.value > 0.8


def test_one_wrong_example_makes_it_inseparable():
    x, labels = np.linspace(-1, 1, 20)[:, None], (np.arange(20) >= 10).astype(int)
    assert linearly_separable(x, labels)
    labels[0] = 1
    assert not linearly_separable(x, labels)


def test_change_is_paired():
    before, after = separability(toy(0.5), LABELS), separability(toy(9), LABELS)
    change = compared({"vit": before}, {"vit": after, "other": after})
    assert list(change) == ["vit"] and change["vit"].low > 0
    assert change["vit"].value == pytest.approx(after.correct.mean() - before.correct.mean())


@pytest.mark.parametrize("x,labels,words", [
    (toy(1)[:12], LABELS[:12], "at least 10"), (np.full((120, 2), np.nan), LABELS, "not finite"),
])  # fmt: skip
def test_bad_input(x, labels, words):
    with pytest.raises(DataError, match=words):
        separability(x, labels)


def test_maps_are_reproducible_and_keep_classes_apart():
    x = toy(9)
    first = t_sne(x, seed=3)
    np.testing.assert_array_equal(first, t_sne(x, seed=3))
    assert first.shape == (120, 2) and separability(first, LABELS).accuracy.value > 0.9
    with pytest.raises(DataError, match="raise --n"):
        t_sne(x[:80])


def test_scene_pairs_differ_in_one_thing_and_share_no_picture():
    pairs = separability_pairs.scene_pairs(12)
    assert len(pairs) >= 4
    for pair in pairs:
        assert pair.labels.tolist() == [0] * 12 + [1] * 12
        assert len({p.tobytes() for p in pair.pictures}) == 24


def test_folders_and_sources_of_two_classes(tmp_path):
    for name, count in (("grand", 3), ("upright", 2)):
        (tmp_path / name / "more").mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (10, 8 + i), (40 * i, 0, 0)).save(tmp_path / name / "more" / f"{i}.png")
    pair = separability_pairs.folder_pair(tmp_path / "grand", tmp_path / "upright", 10)
    assert pair.classes == ("grand", "upright") and pair.labels.tolist() == [0, 0, 0, 1, 1]
    assert pair.pictures[4].shape == (9, 10, 3)
    with pytest.raises(DataError, match="holds no pictures"):
        separability_pairs.folder_pair(tmp_path / "grand", _made(tmp_path / "empty"), 10)
    source = Scenes(max_objects=1, num=60)
    found = separability_pairs.class_pair(source, ("circle", "square"), 5)
    assert len(found.pictures) == 10
    with pytest.raises(DataError, match="0 of 'cat'"):
        separability_pairs.class_pair(source, ("circle", "cat"), 5)


def _made(path):
    path.mkdir()
    return path


@pytest.mark.parametrize("question,expected", [
    ("what colour is the circle ?", [0]),
    ("is there a red square ?", []),
    ("is the red object left or right of the square ?", [0, 1]),
    ("what shape is the rightmost object ?", [1]),
    ("what colour is the largest object ?", [1]),
    ("how many objects are there ?", []),
    ("how many squares are there ?", [1]),
])  # fmt: skip
def test_objects_that_a_question_is_about(question, expected):
    source = Scenes(num=4000, min_objects=2, shapes=["circle", "square"], colours=["red", "blue"])
    for i in range(len(source)):
        a, b = source.scene(i).objects
        if (
            (a.shape, a.colour, b.shape, b.colour) == ("circle", "red", "square", "blue")
            and a.x < b.x
            and a.area < b.area
        ):
            break
    example = source[i]
    asked = questions.asked_about(example, question)
    if not expected:
        assert asked is None
    else:
        np.testing.assert_array_equal(asked, example.masks[expected].any(0))


def test_named_classes_of_other_sources():
    masks = np.eye(2, dtype=bool)[:, :, None]
    example = Example("x", masks=masks, classes=("dining table", "cat"))
    np.testing.assert_array_equal(questions.asked_about(example, "Is the cat asleep?"), masks[1])
    np.testing.assert_array_equal(questions.asked_about(example, "What is on the dining table?"), masks[0])
    assert questions.asked_about(example, "Is this a category?") is None
