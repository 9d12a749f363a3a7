"""Masks of a perfect painter and of one that paints other photos; what the autoencoder alone gives back."""

import dataclasses

import numpy as np
import pytest
from sgt_jax.configs import nano_vae
from sgt_jax.configs.study import first_bed

from sgt_jax.data.pictures.regions import Masks as Runs
from sgt_jax.errors import DataError
from sgt_jax.evaluation.evaluators.masks import Masks
from sgt_jax.evaluation.evaluators.reconstructions import Reconstructions
from sgt_jax.evaluation.rules import segmentation
from tests.support.oracle_subject import OracleSubject

OPTIONS = dict(first_bed.evaluators()["masks"], n=20, train_n=20)


def test_masks_of_a_perfect_painter_and_of_one_that_paints_other_photos(sources):
    result = Masks(OracleSubject(sources), OPTIONS)(None)
    assert np.mean(result.items["miou"]) == 1.0 and np.mean(result.items["pq"]) == 1.0
    assert len(result.rows) == 8 and result.columns == ("condition", "target", "prediction")
    shuffled = Masks(OracleSubject(sources, np.random.default_rng(0)), OPTIONS)(None).items
    assert np.mean(shuffled["miou"]) < 0.4
    for score in Masks.scores(result.items, shuffled):
        assert score.over_before.low > 0.3 and score.ceiling.value == 1.0
        assert 0 < score.baseline.value < 0.5 and score.over_baseline.low > 0.3


def test_ceiling_and_constant_map_are_measured_once(sources):
    class Counting(OracleSubject):
        calls = 0

        def through_autoencoder(self, params, pictures, batch=64):
            self.calls += 1
            return super().through_autoencoder(params, pictures, batch)

    subject = Counting(sources)
    masks = Masks(subject, OPTIONS)
    first, second = masks(None).items, masks(None).items
    assert subject.calls == 1 and first["ceiling_miou"] == second["ceiling_miou"]


def test_a_constant_map_is_found_among_pictures_of_any_size_and_needs_one(sources):
    example = sources["asked"][0]
    half = dataclasses.replace(example, masks=example.masks[:, ::2])
    mixed = Masks(OracleSubject({**sources, "asked": [example, half]}), OPTIONS)
    assert mixed._constant.shape[1:] == mixed._targets[0].shape[:2]
    with pytest.raises(DataError, match="there are none"):
        Masks(OracleSubject({**sources, "asked": []}), OPTIONS)


def test_reconstructions_of_a_perfect_autoencoder_have_scores_and_a_title(sources):
    options = dict(nano_vae.get_config().evaluators.pictures.to_dict(), n=20)
    result = Reconstructions(OracleSubject(sources), options)(None)
    assert len(result.rows) == 8 and np.mean(result.items["miou"]) == 1.0
    assert result.items["photo_psnr"] == pytest.approx([10 * np.log10(255**2)] * 20)
    noisy = {name: [value - 1 for value in values] for name, values in result.items.items()}
    scores = Reconstructions.scores(result.items, noisy)
    assert [(s.name, s.unit) for s in scores][:2] == [("PSNR of pictures", "dB"), ("PSNR of painted masks", "dB")]
    assert all(s.over_before.value == pytest.approx(1) and s.after.n == 20 for s in scores)
    assert "autoencoder" in Reconstructions.TITLE.title


def test_masks_of_files_which_are_runs_are_scored_as_arrays(sources):
    example = sources["held_out"][0]
    ids = np.where(example.masks.any(0), example.masks.argmax(0) + 1, 0)
    packed = dataclasses.replace(example, masks=Runs.of_ids(ids, [1]))
    found = segmentation.true_instances(packed)
    assert isinstance(found, np.ndarray) and segmentation.matched_miou(found, found) == 1.0
