"""Answer matching, the majority baseline, and scores per kind."""

import numpy as np
import pytest

from sgt_jax.evaluation.rules import answers as rules_answers


@pytest.mark.parametrize(
    "a,b",
    [
        ("Yes.", "yes"),
        ("the red circle", "Red  circle"),
        ("Two", "2"),
        ("top-left", "top left"),
        ("3.5", "3.5"),
        ("1,000 !", "1,000"),
        ("there are three.", "there are 3"),
    ],
)
def test_the_same_answer_in_other_words(a, b):
    assert rules_answers.normalise(a) == rules_answers.normalise(b)
    assert rules_answers.matches(a, b)


@pytest.mark.parametrize("a,b", [("yes", "no"), ("", "yes"), ("red circle", "red"), ("12", "1 2"), ("3.5", "35")])
def test_other_answers(a, b):
    assert not rules_answers.matches(a, b)


def test_any_accepted_answer_will_do():
    assert rules_answers.matches("grey", ["gray", "Grey"])
    assert not rules_answers.matches("g", ["gray", "grey"])


def test_majority_is_per_kind_and_ties_are_settled():
    answers = ["two", "2.", "one", "Yes", "1", "1", "2", "no"]
    got = rules_answers.majority_answers(["count", "count", "count", "yes"] * 2, answers)
    assert got == {"count": "1", "yes": "no"}


def test_scores_per_kind_and_overall():
    kinds = ["count"] * 40 + ["colour"] * 60
    answers = ["2"] * 20 + ["1"] * 20 + ["red"] * 30 + ["blue"] * 30
    after = ["two"] * 20 + ["one"] * 10 + ["3"] * 10 + ["Red"] * 30 + ["green"] * 30
    before = [""] * 100
    majority = {"count": "2", "colour": "blue"}
    overall, colour, count = rules_answers.score_answers(after, answers, kinds, majority, before=before)
    assert (overall.kind, colour.kind, count.kind) == ("", "colour", "count")
    assert overall.after.value == 0.6 and overall.after.n == 100
    assert overall.before.value == 0.0 and overall.baseline.value == 0.5
    assert count.after.value == 0.75 and count.over_baseline.value == pytest.approx(0.25)
    assert count.over_baseline.low > 0
    # As many right as the majority answer, but other ones: no gain.
    assert colour.over_baseline.value == 0 and colour.over_baseline.low < 0 < colour.over_baseline.high
    assert overall.baseline_name == "majority answer"


def test_questions_of_one_picture_are_not_independent():
    rng = np.random.default_rng(0)
    good = np.repeat(rng.random(30) < 0.5, 8)
    predictions = ["yes" if g else "no" for g in good]
    args = (predictions, ["yes"] * 240, ["q"] * 240, {"q": "no"})
    alone = rules_answers.score_answers(*args)[0].after
    shared = rules_answers.score_answers(*args, pictures=np.repeat(np.arange(30), 8))[0].after
    assert alone.value == shared.value
    assert shared.high - shared.low > 2 * (alone.high - alone.low)


def test_unknown_kind_and_lengths_are_errors():
    with pytest.raises(ValueError, match="kind depth"):
        rules_answers.score_answers(["a"], ["a"], ["depth"], {"count": "1"})
    with pytest.raises(ValueError):
        rules_answers.correct(["a"], ["a", "b"])
