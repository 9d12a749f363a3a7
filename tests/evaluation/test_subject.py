"""A picture's seed depends on its number alone; a run under way is a subject."""

import inspect

import numpy as np

from sgt_jax.evaluation.subject import Subject, paint_each
from sgt_jax.inference.subject import CheckpointSubject
from sgt_jax.training.subject import RunSubject
from tests.support.oracle_subject import OracleSubject

OPTIONS = dict(seed=100, steps=4, shift=2.0, batch=3, text_scale=1.5, show=8, n=9)


class Recorder:
    def paint(self, params, plans, shape, **how):
        self.how = how
        return np.zeros((len(plans), *shape, 3), np.uint8)


def test_a_pictures_seed_depends_on_its_number_alone():
    recorder = Recorder()
    assert paint_each(recorder, None, [()] * 3, (8, 16), OPTIONS).shape == (3, 8, 16, 3)
    assert recorder.how == dict(seeds=[100, 101, 102], steps=4, shift=2.0, batch=3, text_scale=1.5)
    paint_each(recorder, None, [()] * 2, (8, 16), OPTIONS, [5, 7])
    assert recorder.how["seeds"] == [105, 107]


def test_subjects_have_the_whole_face():
    wanted = {name: value for name, value in vars(Subject).items() if not name.startswith("_")}
    assert set(wanted) == {"canvases", "source", "task", "slots", "answer", "paint", "through_autoencoder",
                           "held_out_batches", "losses"}  # fmt: skip
    for one in (RunSubject, CheckpointSubject, OracleSubject):
        for name, value in wanted.items():
            assert hasattr(one, name), (one, name)
            if inspect.isfunction(value):
                given, face = inspect.signature(getattr(one, name)), inspect.signature(value)
                assert list(given.parameters) == list(face.parameters), (one, name)
