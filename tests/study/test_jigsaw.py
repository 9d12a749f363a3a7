"""The paired skill: answers that say where the quarters of the picture belong."""

import numpy as np
import pytest
from sgt_jax.configs.study import jigsaw

from sgt_jax.data import sources
from sgt_jax.data.proxies.jigsaw import tiles
from sgt_jax.data.sources.scenes import puzzles as puzzles_lib
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError
from sgt_jax.study import arms
from sgt_jax.training import experiment


@pytest.fixture(scope="module")
def config():
    return jigsaw.get_config()


def test_an_answer_puts_the_picture_in_order_and_all_24_are_asked(config):
    puzzles, whole = (sources.open_source(config.base.data.sources[name].to_dict()) for name in ("held_out", "whole"))
    seen = set()
    for i in range(200):
        shown, answer = tiles(puzzles[i].image, 2), puzzles[i].turns[1].text.split()
        ordered = np.empty_like(shown)
        for tile, place in zip(shown, answer, strict=True):
            ordered[puzzles_lib.PLACES.index(place)] = tile
        np.testing.assert_array_equal(ordered, tiles(whole[i].image, 2))
        seen.add(tuple(answer))
    assert len(seen) == 24


def test_every_quarter_differs_so_that_each_says_where_it_belongs(config):
    whole = sources.open_source(config.base.data.sources.whole.to_dict())
    for i in range(100):
        (thing,) = whole[i].masks
        shares = tiles(np.repeat(thing[..., None], 3, 2).astype(float), 2).mean((1, 2, 3))
        assert shares.min() > 0.01 and thing[15:17, 15:17].all()


def test_the_base_knows_every_word(config):
    tokenizer = Tokenizer.nano()
    words = f"{puzzles_lib.QUESTION} {' '.join(puzzles_lib.PLACES)}"
    assert tokenizer.decode(tokenizer.encode(words)) == words


def test_an_epoch_shuffles_afresh_and_a_record_by_itself_is_always_the_same(config):
    puzzles = sources.open_source(config.base.data.sources.asked.to_dict())
    answers = {puzzles.example(3, np.random.default_rng(visit)).turns[1].text for visit in range(10)}
    assert len(answers) > 3 and puzzles[3].turns == puzzles[3].turns
    asked = sources.open_source(config.base.data.sources.asked.to_dict() | dict(turns=3))[3]
    assert len(asked.turns) == 2 and asked.kind == "jigsaw" and asked.extra["kinds"] == ("jigsaw",)


@pytest.mark.parametrize("arm,painted", [("sft", 0.0), ("sgt", 24.0), ("copied", 24.0)])
def test_every_arm_sees_twelve_puzzles_a_step(config, arm, painted):
    made = arms.run_config(config, arms.Run(arm, 0))
    rows, made.data.rows = made.data.rows, 3
    batches = iter(experiment.build(made).batches([0, 1, 2]))
    infos = [next(batches)[1] for _ in range(80)]
    # The pools fill in another order at first: over 500 steps there are 12.0 and 24.6.
    for task, wanted, slack in (("understanding", 12.0, 0.7), ("proxy", painted, 3.5 if painted else 0)):
        assert sum(i.samples.get(task, 0) for i in infos) / len(infos) / 3 * rows == pytest.approx(wanted, abs=slack)


def test_a_name_that_is_taken_is_refused_and_a_config_may_be_read_twice(monkeypatch):
    monkeypatch.setattr(sources, "SOURCES", dict(sources.SOURCES))
    for _ in range(2):
        sources.register("mine", puzzles_lib.Puzzles)
    with pytest.raises(DataError, match="there is a source of type 'scenes' already"):
        sources.register("scenes", puzzles_lib.Puzzles)
    with pytest.raises(DataError, match="'mine' already"):
        sources.register("mine", dict)
    assert len(sources.open_source(dict(type="mine", num=4, turns=0))) == 4
