"""Answers of a perfect model, of one that answers other questions, and which prompt the questions become."""

import numpy as np
import pytest
from sgt_jax.configs.study import first_bed

from sgt_jax.data.examples import Example, Turn
from sgt_jax.errors import DataError
from sgt_jax.evaluation.evaluators.answers import Answers
from tests.support.oracle_subject import TOKENIZER, OracleSubject

OPTIONS = dict(first_bed.evaluators()["answers"], n=60, train_n=100)


def test_answers_of_a_perfect_model_and_of_one_that_answers_other_questions(sources):
    items = Answers(OracleSubject(sources), OPTIONS)(None).items
    assert np.mean(items["accuracy"]) == 1.0 and 0.2 < np.mean(items["majority_accuracy"]) < 0.7
    shuffled = Answers(OracleSubject(sources, np.random.default_rng(0)), OPTIONS)(None).items
    first, *kinds = Answers.scores(items, shuffled)
    assert first.over_before.low > 0.3 and first.over_baseline.low > 0.3 and first.after.n == 60
    assert [s.kind for s in kinds] == sorted(set(items["kind"])) and sum(s.after.n for s in kinds) == 60


def test_a_question_is_asked_as_in_training(sources):
    subject = OracleSubject(sources)
    Answers(subject, OPTIONS)(None)
    example = sources["held_out"][0]
    trained = subject.task({"task": "understanding"})(example, np.random.default_rng(0)).plan
    asked = subject.plans[0]
    assert [item.type for item in asked] == ["vit_image", "text"] and len(asked) < len(trained)
    for one, other in zip(asked, trained):
        assert one.type == other.type and np.array_equal(one.data, other.data)


def test_all_pictures_stand_before_the_first_question_wherever_its_markers_are(sources):
    photos = tuple(np.full((32, 32, 3), grey, np.uint8) for grey in (10, 20))
    turns = (Turn("user", "is <image> like <image>"), Turn("user", "<image>"), Turn("assistant", "no"),
             Turn("user", "why ?"), Turn("assistant", "red"))  # fmt: skip
    both = {**sources, "held_out": [Example("a", images=photos, turns=turns), Example("b", photos[0])]}
    answers = Answers(OracleSubject(both), OPTIONS)
    (plan,) = answers._plans
    assert [item.type for item in plan] == ["vit_image", "vit_image", "text"]
    assert [item.data[0, 0, 0] for item in plan[:2]] == [10, 20]
    assert TOKENIZER.decode(plan[2].data).split() == TOKENIZER.decode(TOKENIZER.encode("is   like")).split()


def test_a_source_without_answers_is_refused(sources):
    with pytest.raises(DataError, match="holds no question with an answer"):
        Answers(OracleSubject({**sources, "held_out": [Example("a"), sources["held_out_edits"][0]]}), OPTIONS)
