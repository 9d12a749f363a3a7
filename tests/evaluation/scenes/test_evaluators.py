"""The evaluators of scenes with a perfect model and with one that answers to shuffled requests, and their scores."""

from types import SimpleNamespace

import numpy as np
import pytest
from sgt_jax.configs import nano_sgt

from sgt_jax.data.pictures.resizing import VitSize
from sgt_jax.data.sources import open_source
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError
from sgt_jax.evaluation import schedule

CONFIG = nano_sgt.get_config()
OPTIONS = nano_sgt.evaluators()
TOKENIZER = Tokenizer.nano()


class Oracle:
    """Stands in for the sampler: knows what the right answer to every plan is, and may mix the answers up."""

    def __init__(self, sources, order=None):
        self.sources, self.order = sources, order
        self.edits = {}
        for source in (sources["held_out_edits"],):
            for i in range(200):
                e = source[i]
                self.edits[e.image.tobytes(), e.edit.request] = e.edit.target
        scenes = (sources["held_out"].example(i) for i in range(60))
        self.scenes = {e.image.tobytes(): e.extra["scene"] for e in scenes}

    def mixed(self, found):
        return found if self.order is None else [found[k] for k in self.order.permutation(len(found))]

    def answer(self, params, plans, **_):
        def one(plan):
            words = TOKENIZER.decode(plan[1].data).split()
            looks = {(o.colour, o.shape) for o in self.scenes[plan[0].data.tobytes()].objects}
            return "yes" if tuple(words[3:5]) in looks else "no"

        return self.mixed([one(plan) for plan in plans])

    def paint(self, params, plans, shape, **_):
        right = [self.edits[plan[0].data.tobytes(), TOKENIZER.decode(plan[-1].data)] for plan in plans]
        return np.stack(self.mixed(right))


@pytest.fixture(scope="module")
def sources():
    return {name: open_source(spec) for name, spec in CONFIG.data.sources.to_dict().items()}


def evaluate(sources, kind, options, order=None):
    experiment = SimpleNamespace(
        source=sources.__getitem__, tokenizer=TOKENIZER, vit_size=VitSize(8, 32, 32), canvases=((32, 32),),
        sampler=Oracle(sources, order),
    )  # fmt: skip
    return schedule.EVALUATORS[kind](experiment, options)(None)


def test_hallucination_of_a_perfect_model_and_of_one_that_answers_other_questions(sources):
    options = dict(OPTIONS["pope"], n=60, train_n=300)
    items = evaluate(sources, "hallucination", options).items
    assert np.mean(items["accuracy"]) == 1.0 and np.mean(items["said_yes"]) == 0.5
    first, *parts = schedule._BY_TYPE["hallucination"](items, None)
    assert first.after.value == 1.0 and [s.kind for s in parts] == ["random", "popular", "adversarial"]
    shuffled = evaluate(sources, "hallucination", options, np.random.default_rng(0)).items
    # Asked are fewer present than absent classes, so that shuffled answers say yes less than half the time.
    assert abs(np.mean(shuffled["accuracy"]) - 0.5) < 0.08
    before = schedule._BY_TYPE["hallucination"](items, shuffled)[0]
    assert before.over_before.low > 0.3


def test_edits_of_a_perfect_model_and_of_one_that_draws_other_edits(sources):
    options = dict(OPTIONS["edits"], n=60)
    result = evaluate(sources, "edits", options)
    assert np.mean(result.items["exact"]) >= 0.95 and "copy" not in result.items["kind"]
    assert len(result.rows) == 8 and result.columns == ("before", "edited", "should be")
    shuffled = evaluate(sources, "edits", options, np.random.default_rng(0)).items
    assert np.mean(shuffled["exact"]) < 0.1
    scores = schedule._BY_TYPE["edits"](result.items, shuffled)
    assert scores[0].over_before.low > 0.8 and {s.name for s in scores} >= {"edit exact", "the rest stayed"}


def test_sources_without_scenes_or_edits_are_refused(sources):
    with pytest.raises(DataError, match="has no edits; set `edits` in config.data.sources.held_out"):
        evaluate(sources, "edits", dict(OPTIONS["edits"], source="held_out"))
    plain = {**sources, "held_out": [1, 2]}
    with pytest.raises(DataError, match="'held_out' has no scene descriptions"):
        schedule.EVALUATORS["prompts"](SimpleNamespace(source=plain.__getitem__), OPTIONS["prompts"])
    assert isinstance(sources["held_out"], Scenes)
