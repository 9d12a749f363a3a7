"""Tiles painted in order: a perfect painter has all in place, one that copies what it is shown has those of chance."""

import numpy as np
import pytest
from sgt_jax.configs.study import jigsaw

from sgt_jax.data.pictures.resizing import ResizeRule
from sgt_jax.data.sources import open_source
from sgt_jax.data.tasks import make_task
from sgt_jax.errors import DataError
from sgt_jax.evaluation.evaluators.tiles import Tiles
from tests.support.oracle_subject import TOKENIZER, OracleSubject

OPTIONS = jigsaw.get_config().base.evaluators.tiles.to_dict() | dict(n=24)


class Painter(OracleSubject):
    """Paints what `choose` takes of a plan's shown picture and target."""

    def __init__(self, source, choose):
        super().__init__({"whole": source})
        self._choose, self._pairs = choose, []

    def task(self, spec):
        task = make_task(spec, encode=TOKENIZER.encode, vit_size=ResizeRule(8, 32, 32), canvases=self.canvases)
        pair = task.pair

        def remember(example, rng):
            self._pairs.append(pair(example, rng))
            return self._pairs[-1]

        object.__setattr__(task, "pair", remember)
        return task

    def paint(self, params, plans, shape, *, seeds, **options):
        return np.stack([self._choose(self._pairs[seed - OPTIONS["seed"]]) for seed in seeds])


@pytest.fixture(scope="module")
def source():
    return open_source(jigsaw.get_config().base.data.sources.whole.to_dict())


def test_all_tiles_are_in_place_in_the_picture_itself_and_few_in_what_was_shown(source):
    perfect = Tiles(Painter(source, lambda pair: pair.target), OPTIONS)(None)
    assert perfect.items["in_place"] == [1.0] * 24 and len(perfect.rows) == OPTIONS["show"]
    copied = Tiles(Painter(source, lambda pair: pair.condition), OPTIONS)(None)
    assert copied.items["in_place"] == copied.items["shown_in_place"]
    # Of four tiles in another order than their own, one lies right in 8 of 23 orders and two do in 6: 20 of 92 places.
    assert np.mean(copied.items["in_place"]) == pytest.approx(20 / 92, abs=0.1)
    (score,) = Tiles.scores(perfect.items, copied.items)
    assert score.after.value == 1 and score.over_before.low > 0.5 and score.baseline_name == "as shown"


def test_a_grid_that_does_not_divide_the_canvas_is_cut_to_one_that_does(source):
    painter = Painter(source, lambda pair: np.pad(pair.target, ((1, 1), (1, 1), (0, 0)), mode="edge"))
    found = Tiles(painter, OPTIONS | dict(n=4, proxy_options=dict(grid=3, style="plain")))(None)
    assert found.items["in_place"] == [1.0] * 4


def test_a_source_without_pictures_is_refused(source):
    with pytest.raises(DataError, match="holds no picture to shuffle"):
        Tiles(Painter(source, None), OPTIONS | dict(n=0))
