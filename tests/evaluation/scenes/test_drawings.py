"""Drawings of a perfect model, and of one that draws other captions' scenes; drawings for GenEval's prompts."""

import dataclasses

import numpy as np
import pytest
from sgt_jax.configs import nano

from sgt_jax.errors import DataError
from sgt_jax.evaluation.scenes.drawings import Drawings
from sgt_jax.evaluation.scenes.geneval import Prompts
from tests.support.oracle_subject import OracleSubject

OPTIONS = dict(nano.get_config().evaluators.drawings.to_dict(), n=60)


def test_drawings_of_a_perfect_model_and_of_one_that_draws_other_captions(sources):
    result = Drawings(OracleSubject(sources), OPTIONS)(None)
    assert np.mean(result.items["exact"]) >= 0.95 and len(result.rows) == len(result.captions) == 8
    shuffled = Drawings(OracleSubject(sources, np.random.default_rng(0)), OPTIONS)(None).items
    assert np.mean(shuffled["exact"]) < 0.2
    scores = {score.name: score for score in Drawings.scores(result.items, shuffled)}
    assert scores["exact"].over_before.low > 0.6 and "prompt" not in scores
    # A relation is only judged where the caption states one.
    stated = [right for right in result.items["relation"] if right is not None]
    assert 0 < len(stated) < 60 and scores["relation"].after.n == len(stated)


def test_sources_without_scenes_are_refused(sources):
    plain = {**sources, "held_out": [dataclasses.replace(sources["held_out"][0], extra={})]}
    with pytest.raises(DataError, match="has no scene descriptions, which this evaluator's oracle needs"):
        Drawings(OracleSubject(plain), OPTIONS)
    plain["held_out"] = [1, 2]
    with pytest.raises(DataError, match="'held_out' has no scene descriptions"):
        Prompts(OracleSubject(plain), dict(OPTIONS, max_count=4))
