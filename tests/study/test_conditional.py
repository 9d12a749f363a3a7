"""Answers split by the painting of the same picture: a planted link is found, and difficulty alone is not one."""

import json

import numpy as np
import pytest
from etils import epath
from sgt_jax.configs.study import headline

from sgt_jax.errors import ConfigError
from sgt_jax.study import conditional, decide, records
from tests.support import dots_results

N, SEEDS = 400, (200, 201, 202)
PLAN = dict(painter="sgt", against="sft", least=0.5)


def results(link, hard):
    """Runs in which a picture is hard with a chance, and the painter's answers hang on its own painting by `link`."""
    rng = np.random.default_rng(0)
    made = {"sgt": {}, "sft": {}}
    difficult = rng.random(N) < 0.5
    for seed in SEEDS:
        painted = rng.random(N) < np.where(difficult, 0.2, 0.8)
        chance = np.where(difficult, 0.7 - hard, 0.7)
        for arm, bonus in (("sgt", link * painted), ("sft", 0.0)):
            answers = {"accuracy": records.pack(rng.random(N) < chance + bonus)}
            made[arm][seed] = {"items": {"answers": answers, "masks": {"pq": records.pack(painted * 0.9)}}}
    return conditional.Results({}, {"answers": {}, "masks": {}}, made)


@pytest.mark.parametrize("link,hard", [(0.25, 0.0), (0.0, 0.3), (0.2, 0.3)])
def test_what_the_painter_gains_beyond_the_other_arm_is_the_link_and_not_difficulty(link, hard):
    own, other = conditional.splits(results(link, hard), PLAN, np.ones(N, int))
    assert (own.points - other.points).mean() == pytest.approx(100 * link, abs=8)
    assert other.points.mean() == pytest.approx(100 * hard * 0.6, abs=8)
    assert own.right - own.wrong == pytest.approx(own.points.mean(), abs=1)


def test_only_pictures_with_equally_many_objects_are_compared():
    group = np.array([2, 2, 2, 2, 3, 3, 3, 3])
    split = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    values = np.array([1, 1, 1, 1, 0, 0, 0, 0.0])
    assert conditional.matched(values, split, group) == 0 and values[split].mean() > values[~split].mean()
    assert np.isnan(conditional.matched(values, group == 2, group))


def test_a_study_says_it_beside_its_contrasts(tmp_path):
    study = headline.get_config()
    study.base.evaluators.masks.n = 20
    study.seeds = SEEDS
    folder = dots_results.planted(epath.Path(tmp_path), study, lambda arm, seed, kind: 0.9, only=("sgt", "sft"))
    for path in (folder / records.RUNS).glob("*.json"):
        record = json.loads(path.read_text())
        record["items"]["masks"]["pq"] = records.pack([0.9, 0.1] * 10)
        records.write_json(path, record)
    text = decide.markdown(study, folder)
    assert "| sgt | 100.0 | 100.0 | +0.0 (3 seeds) |" in text and "| sgt beyond sft | | | +0.0 (3 seeds) |" in text


def test_pictures_and_questions_must_be_of_one_source():
    study = headline.get_config()
    assert set(conditional.objects(study)) == {2, 3} and len(conditional.objects(study)) == N
    study.base.evaluators.masks.source = "known"
    with pytest.raises(ConfigError, match="give the evaluators 'answers' and .masks. one source, not 'held_out' and 'known'"):
        conditional.objects(study)
