"""Every evaluator is found by its name and has the whole face; those of the shipped configs run and are scored."""

import inspect

import numpy as np
import pytest
from sgt_jax.configs import nano, nano_pretrain, nano_sgt, nano_vae
from sgt_jax.configs.study import dots, first_bed

from sgt_jax.errors import ConfigError
from sgt_jax.evaluation import evaluators
from sgt_jax.evaluation.evaluators.held_out_loss import HeldOutLoss
from sgt_jax.evaluation.schedule import Schedule, collect_scores
from tests.support.oracle_subject import OracleSubject


@pytest.mark.parametrize("kind", evaluators.EVALUATORS)
def test_an_evaluator_has_a_title_scores_and_documented_options(kind):
    evaluator = evaluators.by_name(kind)
    title, caption = evaluator.TITLE
    assert title and isinstance(caption, str)
    assert list(inspect.signature(evaluator).parameters) == ["subject", "options"]
    assert list(inspect.signature(evaluator.scores).parameters) == ["after", "before"]
    assert "Options:" in evaluator.__doc__


def test_options_of_the_shipped_configs_are_documented():
    for config in (nano, nano_pretrain, nano_sgt, nano_vae, first_bed, dots):
        for options in config.get_config().evaluators.to_dict().values():
            words = evaluators.by_name(options["type"]).__doc__
            assert [name for name in options if name != "type" and name not in words] == [], options["type"]


def test_an_unknown_type_is_refused_by_the_name_in_the_config():
    with pytest.raises(ConfigError, match="evaluator 'mine': unknown type 'nonsense'; there are answers, benchmark, "):
        evaluators.by_name("nonsense", "mine")


class _Log:
    def __init__(self):
        self.lines, self.grids = [], []

    def scalars(self, step, values, kind="train"):
        self.lines.append((step, kind, values))

    def pictures(self, step, name, rows, *, columns=(), captions=()):
        self.grids.append((step, name, len(rows)))


def test_a_schedule_keeps_items_on_disk_and_scores_the_last_step_against_the_first(sources, tmp_path):
    options = {
        "loss": dict(type="loss", source="held_out", batches=3),
        "masks": dict(first_bed.evaluators()["masks"], n=10, train_n=10),
        "pictures": dict(nano_vae.get_config().evaluators.pictures.to_dict(), n=10),
    }
    log = _Log()
    for step, order in ((0, np.random.default_rng(0)), (7, None)):
        schedule = Schedule(options, OracleSubject(sources, order), tmp_path, log)
        schedule(step, None)
    assert set(schedule.results) == set(options) and schedule.seconds > 0
    assert [(step, kind) for step, kind, _ in log.lines] == [(0, "eval"), (7, "eval")]
    assert log.lines[1][2]["masks/miou"] == 1.0 and log.lines[1][2]["loss/ce"] == 4.0
    assert log.grids == [(step, name, 8) for step in (0, 7) for name in ("masks", "pictures")]
    scores = {(s.group, s.name): s for s in collect_scores(tmp_path, options)}
    assert scores["segmentation", "mask mIoU"].over_before.low > 0.2
    assert scores["loss", HeldOutLoss.LABELS["ce"]].lower_is_better
    assert ("reconstruction", "PSNR of pictures") in scores


def test_only_the_first_process_writes_items(sources, tmp_path):
    options = {"loss": dict(type="loss", source="held_out", batches=1)}
    Schedule(options, OracleSubject(sources), tmp_path, _Log(), primary=False)(0, None)
    assert collect_scores(tmp_path, options) == [] and not list(tmp_path.iterdir())
