"""Edits are judged rightly: the true picture after an edit passes, and each way to fail is told apart."""

import numpy as np
import pytest
from sgt_jax.configs.study import first_bed

from sgt_jax.data.sources.scenes.edits import EDITS
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.errors import DataError
from sgt_jax.evaluation.rules.geneval import Thing
from sgt_jax.evaluation.scenes.edits import Edits, judge_edit
from tests.support.oracle_subject import OracleSubject

SIZES = dict(small=(0.13, 0.16), large=(0.2, 0.25))
SCENES = Scenes(max_objects=4, sizes=SIZES, edits=EDITS, split="test")
CASES = [e for e in (SCENES[i] for i in range(120)) if e.edit.extra["change"].kind != "copy"]


def verdicts(pictures):
    parts = [(e.extra["scene"], e.edit.extra["change"], e.edit.extra["scene"]) for e in CASES]
    found = [judge_edit(*part, picture) for part, picture in zip(parts, pictures, strict=True)]
    return {name: np.mean([v[name] for v in found]) for name in found[0]}


def things(scene):
    return [Thing(o.colour, o.shape, o.x, o.y, o.visible, 1.0) for o in scene.objects]


def test_the_true_pictures_pass():
    assert verdicts([things(e.edit.extra["scene"]) for e in CASES]) == dict(changed=1.0, kept=1.0, exact=1.0)
    # Through the parser, which is wrong about a few part-hidden shapes.
    assert verdicts([e.edit.target for e in CASES])["exact"] >= 0.95


def test_a_copy_keeps_everything_and_changes_nothing():
    found = verdicts([things(e.extra["scene"]) for e in CASES])
    assert found == dict(changed=0.0, kept=1.0, exact=0.0)


def test_pictures_of_other_scenes_fail():
    others = [CASES[i - 1].edit.target for i in range(len(CASES))]
    found = verdicts(others)
    assert found["exact"] < 0.02 and found["kept"] < 0.4


def test_planted_errors_are_told_apart():
    def damaged(change):
        return verdicts([change(things(e.edit.extra["scene"]), e) for e in CASES])

    extra = Thing("white", "circle", 0.5, 0.5, 9, 1.0)

    def add(found, e):  # something new, far from the object that was to change
        o = e.extra["scene"].objects[e.edit.extra["change"].number]
        return [*found, extra._replace(x=(o.x + 0.5) % 1, y=(o.y + 0.5) % 1)]

    def lose(found, e):  # another object is gone
        change = e.edit.extra["change"]
        o = e.extra["scene"].objects[change.number]
        others = [t for t in found if (t.x, t.y) != (o.x, o.y)]
        return [t for t in found if not others or t is not others[0]]

    assert damaged(add)["kept"] == 0.0 and damaged(add)["changed"] == 1.0
    alone = np.mean([len(e.extra["scene"].objects) == 1 for e in CASES])
    assert damaged(lose)["kept"] == alone and damaged(lose)["exact"] == alone


@pytest.mark.parametrize("see", [False, True])
def test_edits_of_a_perfect_model_and_of_one_that_draws_other_edits(sources, see):
    options, subject = dict(first_bed.evaluators()["edits"], n=60, see=see), OracleSubject(sources)
    result = Edits(subject, options)(None)
    assert [item.type for item in subject.plans[0]] == ["vae_image", *["vit_image"] * see, "text"]
    assert np.mean(result.items["exact"]) >= 0.95 and "copy" not in result.items["kind"]
    assert len(result.rows) == 8 and result.columns == ("picture", "edited", "should be")
    shuffled = Edits(OracleSubject(sources, np.random.default_rng(0)), options)(None).items
    assert np.mean(shuffled["exact"]) < 0.1
    scores = Edits.scores(result.items, shuffled)
    assert scores[0].over_before.low > 0.8 and {s.name for s in scores} >= {"edit exact", "the rest stayed"}


def test_a_source_without_edits_is_refused(sources):
    options = dict(first_bed.evaluators()["edits"], source="held_out")
    with pytest.raises(DataError, match="has no edits; set `edits` in config.data.sources.held_out"):
        Edits(OracleSubject(sources), options)
