"""POPE's protocol on scenes: polls are balanced and as their category says; scores of known answerers are known."""

import numpy as np
import pytest

from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.data.sources.scenes.world import ranked_classes
from sgt_jax.evaluation.rules import pope

SCENES = Scenes(max_objects=4, prior=0.7, company=0.3)
TRAIN = [[(o.colour, o.shape) for o in SCENES.scene(i).objects] for i in range(400)]
TEST = [
    [(o.colour, o.shape) for o in Scenes(max_objects=4, prior=0.7, company=0.3, split="test").scene(i).objects]
    for i in range(150)
]
CLASSES = ranked_classes(SCENES.shapes, SCENES.colours)
HABITS = pope.habits(TRAIN, CLASSES)
POLLS = pope.polls(TEST, HABITS)


def of(category):
    return [p for p in POLLS if p.category == category]


def test_habits_count_pictures_not_objects():
    known = pope.habits([["a", "a", "b"], ["b", "c"], ["b"]], ["d"])
    assert known.classes == ("b", "a", "c", "d")
    assert known.together["b"] == {"a": 1, "c": 1} and known.together["a"] == {"b": 1}


def test_polls_are_balanced_true_and_the_same_positives():
    for category in pope.CATEGORIES:
        polls = of(category)
        assert np.mean([p.present for p in polls]) == 0.5
        assert all(p.present == (p.asked in TEST[p.picture]) for p in polls)
        assert [p for p in polls if p.present] == [p._replace(category=category) for p in of("random") if p.present]
        assert len({(p.picture, p.asked) for p in polls}) == len(polls), "asked twice"
    assert POLLS == pope.polls(TEST, HABITS) != pope.polls(TEST, HABITS, seed=1)


def test_absent_classes_are_as_common_and_as_usual_as_their_category_says():
    rank = {c: HABITS.classes.index(c) for c in HABITS.classes}

    def mean(category, of_poll):
        return np.mean([of_poll(p) for p in of(category) if not p.present])

    assert mean("popular", lambda p: rank[p.asked]) < 5 < mean("random", lambda p: rank[p.asked])

    def company(p):
        return sum(HABITS.together.get(c, {}).get(p.asked, 0) for c in set(TEST[p.picture]))

    assert mean("adversarial", company) > mean("popular", company) > mean("random", company)


def test_known_answerers():
    truth = [p.present for p in POLLS]
    assert pope.scores(truth, truth) == dict(accuracy=1.0, precision=1.0, recall=1.0, f1=1.0, yes_ratio=0.5)
    always = pope.scores([True] * len(truth), truth)
    assert (always["accuracy"], always["recall"], always["yes_ratio"]) == (0.5, 1.0, 1.0)
    assert always["f1"] == pytest.approx(2 / 3)
    assert pope.scores([False] * len(truth), truth)["f1"] == 0.0
    # Answers to shuffled questions: chance, within four standard errors.
    shuffled = np.random.default_rng(0).permutation(truth)
    assert abs(pope.scores(shuffled, truth)["accuracy"] - 0.5) < 4 * 0.5 / len(truth) ** 0.5
    # Someone who knows only how common things are is fooled by popular questions most.
    common = set(HABITS.classes[:7])
    f1 = {
        c: pope.scores([p.asked in common for p in of(c)], [p.present for p in of(c)])["accuracy"]
        for c in pope.CATEGORIES
    }
    assert f1["popular"] < f1["random"]
    with pytest.raises(ValueError, match="1 answers for 2 questions"):
        pope.scores([True], [True, False])


@pytest.mark.parametrize(
    ("answer", "yes"),
    [("yes", True), ("Yes, there is.", True), ("no", False), ("No. Yes.", False), ("there is not", False), ("red", True),
     ("yes. no", True), ("", True)],
)  # fmt: skip
def test_answers_are_read_as_pope_reads_them(answer, yes):
    assert pope.says_yes(answer) == yes
