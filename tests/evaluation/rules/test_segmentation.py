"""Segmentation scores on cases worked out by hand."""

import numpy as np
import pytest

from sgt_jax.data.pictures.masks import from_labels
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.evaluation.rules import segmentation


def boxes(*corners, size=(20, 20)):
    out = np.zeros((len(corners), *size), bool)
    for mask, (top, left, bottom, right) in zip(out, corners, strict=True):
        mask[top:bottom, left:right] = True
    return out


TRUTH = boxes((0, 0, 10, 10), (10, 10, 20, 20))


def test_iou_matrix():
    other = boxes((0, 0, 10, 5), (15, 10, 20, 20), (0, 0, 20, 20))
    expected = [[50 / 100, 0], [0, 50 / 100], [100 / 400, 100 / 400]]
    np.testing.assert_allclose(segmentation.iou_matrix(other, TRUTH), expected)
    assert segmentation.iou_matrix(other[:0], TRUTH).shape == (0, 2)
    with pytest.raises(ValueError, match="different sizes"):
        segmentation.iou_matrix(boxes((0, 0, 1, 1), size=(4, 4)), TRUTH)


def test_matched_miou_takes_the_best_assignment_not_the_greedy_one():
    # Row by row, A would take the first truth (0.67) and leave B nothing.
    truth = boxes((0, 0, 10, 1), (0, 1, 10, 2), size=(10, 4))
    a = truth[0] | (truth[1] & (np.arange(10) < 5)[:, None])
    b = truth[0] & (np.arange(10) < 9)[:, None]
    iou = segmentation.iou_matrix(np.stack([a, b]), truth)
    np.testing.assert_allclose(iou, [[10 / 15, 5 / 20], [0.9, 0]])
    np.testing.assert_allclose(segmentation.matched_ious(np.stack([a, b]), truth), [0.9, 5 / 20])


def test_matched_miou_of_nothing_missing_and_too_much():
    nothing = TRUTH[:0]
    assert segmentation.matched_miou(nothing, nothing) == 1
    assert segmentation.matched_miou(TRUTH, nothing) == 0
    assert segmentation.matched_miou(nothing, TRUTH) == 0
    assert segmentation.matched_miou(TRUTH[:1], TRUTH) == 0.5
    assert segmentation.matched_miou(np.concatenate([TRUTH, boxes((0, 15, 5, 20))]), TRUTH) == 1


def test_panoptic_quality_counts():
    predicted = boxes((0, 0, 10, 8), (10, 10, 20, 13), (0, 15, 5, 20))
    found = segmentation.panoptic_quality(predicted, TRUTH)
    assert found == segmentation.Panoptic(0.8, 1, 2, 1)
    assert (found.sq, found.rq) == (pytest.approx(0.8), pytest.approx(1 / 2.5))
    assert found.pq == pytest.approx(0.8 / 2.5)
    assert segmentation.panoptic_quality(TRUTH, TRUTH).pq == 1
    assert segmentation.panoptic_quality(TRUTH[:0], TRUTH).pq == 0
    assert segmentation.panoptic_quality(TRUTH[:0], TRUTH[:0]).pq == 1


@pytest.mark.parametrize("rows, iou", [(4, 0.0), (5, 0.0), (6, 0.6)])
def test_panoptic_quality_matches_above_one_half_only(rows, iou):
    found = segmentation.panoptic_quality(boxes((0, 0, rows, 10)), TRUTH[:1])
    assert found.iou == pytest.approx(iou) and found.matched == (iou > 0)


def test_panoptic_quality_of_several_pictures_is_that_of_the_summed_counts():
    total = segmentation.panoptic_quality(TRUTH, TRUTH) + segmentation.panoptic_quality(TRUTH[:0], TRUTH)
    assert total == segmentation.Panoptic(2.0, 2, 0, 2) and total.pq == pytest.approx(2 / 3)


def test_overlapping_masks_are_made_disjoint_before_panoptic_matching():
    whole = boxes((0, 0, 20, 20))
    doubled = np.concatenate([whole, whole])  # both would match the one truth
    assert segmentation.panoptic_quality(doubled, whole).matched == 1


def test_boundary_f():
    shifted = np.roll(TRUTH, 1, axis=2)
    far = boxes((0, 14, 3, 17))
    assert segmentation.boundary_f(TRUTH, TRUTH) == 1
    assert segmentation.boundary_f(shifted, TRUTH) > 0.8
    assert segmentation.boundary_f(far, TRUTH) < 0.2
    assert segmentation.boundary_f(TRUTH[:0], TRUTH) == 0
    assert segmentation.boundary_f(TRUTH[:0], TRUTH[:0]) == 1
    wide = boxes((0, 0, 500, 100), size=(1000, 1000))
    moved = boxes((0, 0, 500, 111), size=(1000, 1000))
    # 0.0075 of the diagonal of 1414 are 10.6 pixels: 11 is too far.
    assert segmentation.boundary_f(boxes((0, 0, 500, 110), size=(1000, 1000)), wide) == 1
    assert segmentation.boundary_f(moved, wide) < 0.4


def test_boundary_f_of_a_border_too_many_and_one_too_few():
    left, right = boxes((0, 0, 40, 10), size=(40, 40)), boxes((0, 30, 40, 40), size=(40, 40))
    both = np.concatenate([left, right])  # two straight borders of equal length, far apart
    assert segmentation.boundary_f(both, left) == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert segmentation.boundary_f(left, both) == pytest.approx(2 / 3)  # precision 1, recall 1/2
    assert segmentation.boundary_f(right, left) == 0


def test_adjusted_rand_by_hand():
    # Six pixels, truth 3 + 3, predicted 2 + 4. Pairs together in both: 1 + 3 = 4; in truth 3 + 3 = 6; in the prediction
    # 1 + 6 = 7; of 15. (4 - 6 * 7 / 15) / ((6 + 7) / 2 - 6 * 7 / 15) = 1.2 / 3.7.
    truth, predicted = boxes((0, 0, 1, 3), size=(1, 6)), boxes((0, 0, 1, 2), size=(1, 6))
    assert segmentation.adjusted_rand(predicted, truth) == pytest.approx(1.2 / 3.7)
    # Ground that no mask claims is a part like any other.
    assert segmentation.adjusted_rand(boxes((0, 3, 1, 6), size=(1, 6)), truth) == 1


def test_adjusted_rand_ignores_names_and_is_zero_for_one_blob():
    assert segmentation.adjusted_rand(TRUTH[::-1], TRUTH) == 1
    assert segmentation.adjusted_rand(boxes((0, 0, 20, 20)), TRUTH) == 0
    assert 0 < segmentation.adjusted_rand(boxes((0, 0, 10, 8), (10, 10, 20, 20)), TRUTH) < 1


def test_scores_agree_with_the_functions():
    found = segmentation.scores(boxes((0, 0, 10, 8), (10, 10, 20, 13)), TRUTH)
    assert found["miou"] == pytest.approx((0.8 + 0.3) / 2) and found["pq"] == pytest.approx(0.8 / 2)
    assert set(found) == {"miou", "pq", "sq", "rq", "boundary_f", "adjusted_rand"}


def test_best_constant_mask_finds_what_is_constant():
    left = boxes((0, 0, 20, 10))
    assert segmentation.matched_miou(segmentation.best_constant_mask([left] * 3), left) == 1
    whole = boxes((0, 0, 20, 20))
    np.testing.assert_array_equal(segmentation.best_constant_mask([whole, whole, left]), whole)
    empty = np.zeros((0, 20, 20), bool)
    assert segmentation.best_constant_mask([empty, empty, whole]).shape == (0, 20, 20)
    y, x = np.mgrid[:20, :20]
    disc = (np.hypot(y - 9.5, x - 9.5) < 6)[None]
    assert segmentation.matched_miou(segmentation.best_constant_mask([disc]), disc) > 0.85


def test_best_constant_mask_of_scenes_is_far_below_the_truth():
    instances = [Scenes()[i].masks for i in range(100)]
    constant = segmentation.best_constant_mask(instances)
    assert constant.dtype == bool and constant.sum(0).max() <= 1
    score = np.mean([segmentation.matched_miou(constant, m) for m in instances])
    assert 0.15 < score < 0.45
    for other in (np.ones((32, 32), int), np.eye(32, dtype=int)):
        assert score >= np.mean([segmentation.matched_miou(from_labels(other), m) for m in instances])
