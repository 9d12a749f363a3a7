"""POPE's questions put to a perfect model and to one that answers other questions."""

import numpy as np
from sgt_jax.configs.study import first_bed

from sgt_jax.evaluation.scenes.pope import Hallucination
from tests.support.oracle_subject import OracleSubject

OPTIONS = dict(first_bed.evaluators()["pope"], n=60, train_n=300)


def test_hallucination_of_a_perfect_model_and_of_one_that_answers_other_questions(sources):
    items = Hallucination(OracleSubject(sources), OPTIONS)(None).items
    assert np.mean(items["accuracy"]) == 1.0 and np.mean(items["said_yes"]) == 0.5
    first, *parts = Hallucination.scores(items, None)
    assert first.after.value == 1.0 and [s.kind for s in parts] == ["random", "popular", "adversarial"]
    shuffled = Hallucination(OracleSubject(sources, np.random.default_rng(0)), OPTIONS)(None).items
    # Asked are fewer present than absent classes, so that shuffled answers say yes less than half the time.
    assert abs(np.mean(shuffled["accuracy"]) - 0.5) < 0.08
    before = Hallucination.scores(items, shuffled)[0]
    assert before.over_before.low > 0.3


def test_questions_about_one_scene_are_resampled_together(sources):
    items = Hallucination(OracleSubject(sources, np.random.default_rng(0)), OPTIONS)(None).items
    assert {s.after.method for s in Hallucination.scores(items, None)} == {"bootstrap"}, (
        "not Wilson of single questions"
    )
