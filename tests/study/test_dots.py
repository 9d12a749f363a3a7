"""The bed of discs: equal answers in all arms, masks of another scene, fixed pools, and no question that names a shape."""

import dataclasses

import numpy as np
import pytest
from sgt_jax.configs.study import dots, gates, headline, scarce

from sgt_jax.data.sources import open_source
from sgt_jax.errors import ConfigError, DataError
from sgt_jax.evaluation.evaluators.answers import Answers
from sgt_jax.study import arms
from sgt_jax.training import experiment
from tests.support.oracle_subject import OracleSubject


def packs(study, arm, n):
    config = arms.run_config(study, arms.Run(arm, 0))
    rows = config.data.rows
    config.data.rows = 3
    it = iter(experiment.build(config).batches([0, 1, 2]))
    return [next(it)[1] for _ in range(n)], rows


def source(name, **more):
    return open_source(dots.get_config().data.sources[name].to_dict() | more)


@pytest.mark.parametrize("study,arm", [(headline, "sft"), (headline, "sgt"), (gates, "sft_no_replay")])
def test_every_arm_sees_twelve_conversations_about_discs_a_step(study, arm):
    infos, rows = packs(study.get_config(), arm, 60)
    conversations = sum(info.samples.get("understanding", 0) for info in infos[10:])
    assert conversations / 50 / 3 * rows == pytest.approx(12, abs=0.5)


def test_masks_of_another_scene_have_the_same_pixels_as_a_whole_and_say_nothing_of_the_picture():
    own, other = source("painted", num=6), source("painted", num=6, strange_masks=True)
    for i in range(6):
        assert np.array_equal(own[i].image, other[i].image)
        assert np.array_equal(other[i].masks, own[(i + 3) % 6].masks)
        assert not np.array_equal(other[i].masks, own[i].masks)
    with pytest.raises(DataError, match="num must be at least 2"):
        source("painted", num=1, strange_masks=True)


def test_a_fixed_pool_asks_the_same_at_every_visit_and_a_fresh_one_does_not():
    spec = scarce.pool(250)["data"]["sources"]["asked"]
    assert spec["num"] * scarce.TURNS == 252
    for fixed in (True, False):
        pool = source("asked", num=spec["num"], fixed=fixed)
        visits = [[pool.example(i, np.random.default_rng(visit)).turns for i in range(20)] for visit in (0, 1)]
        assert (visits[0] == visits[1]) is fixed


def test_no_question_names_a_shape():
    asked = source("held_out")
    questions = [asked[i].turns[0].text for i in range(200)]
    assert not any(word in question for question in questions for word in ("circle", "square", "triangle"))


def test_scenes_that_fit_no_question_are_passed_over_and_counted_where_the_config_allows_it():
    held_out = source("held_out", num=60)

    class Some:
        def __len__(self):
            return 40

        def __getitem__(self, i):
            if i % 4 == 0:
                raise DataError(f"scenes/{i}: no question fits it")
            return dataclasses.replace(held_out[i], name=str(i))

    subject = OracleSubject({"discs": Some(), "held_out": held_out})
    options = dict(dots.evaluators()["answers"], source="discs", train_source="discs", n=20, train_n=10)
    found = Answers(subject, options)
    assert found.passed_over == 7 and found(None).items["picture"][:4] == ["1", "2", "3", "5"]
    with pytest.raises(DataError, match="no question fits it"):
        Answers(subject, {**options, "on_bad": "error"})


def test_painting_first_visits_its_triples_as_sft_does_and_starts_from_the_painter_of_its_seed():
    study = scarce.get_config()
    order = [run.arm for run in arms.runs(study) if run.seed == 300]
    assert set(order[:8]) >= {"painter", "strange_painter"} and len(order) == 14
    for pool in ("0250", "4000"):
        alone, first, strange = (arms.run_config(study, arms.Run(f"{a}_{pool}", 300)) for a in ("sft", "paint", "strange"))
        painter = arms.fingerprint(arms.run_config(study, arms.Run("painter", 300)))
        assert first.after == painter != strange.after and first.init_from == alone.init_from
        assert first.data == alone.data and first.total_steps == alone.total_steps
        assert len({arms.fingerprint(c) for c in (alone, first, strange)}) == 3
    study.arms.paint_0250.after = "paint_1000"
    with pytest.raises(ConfigError, match="config.arms.paint_0250.after is 'paint_1000'"):
        arms.run_config(study, arms.Run("paint_0250", 300))
