"""Forest plots: what stands beside a line."""

from sgt_jax.evaluation.statistics import Estimate
from sgt_jax.reporting import forest


def test_a_long_name_loses_its_brackets_before_it_is_cut():
    names = ["mask mIoU", "panoptic quality (class-agnostic)", "cross-entropy per answer token", "x" * 40]
    rows = [forest.Row(name, Estimate(0.1, 9, 0.0, 0.2, "given")) for name in names]
    drawn = forest.draw("scores", rows)
    for shown in ("mask mIoU", "panoptic quality", "cross-entropy per answer token", "x" * 29 + "…"):
        assert f"{shown}</text>" in drawn, shown
