"""What a base of integers costs a run of adapters: paired by seed, from the steps that are named."""

import json
import sys

import pytest
from scipy import stats

from tests.support import int8_loss
from tests.support.paths import REPOSITORY


def test_losses_are_paired_by_seed_and_only_those_of_the_named_steps_count(tmp_path, monkeypatch, capsys):
    for arm, extra in (("lora", 0.0), ("lora_int8", 0.1)):
        for seed in range(3):
            folder = tmp_path / "arms" / f"{arm}_{seed}"
            folder.mkdir(parents=True)
            lines = [{"step": s, "kind": "train", "loss": seed + extra * (seed + 1) + (s < 150)} for s in (140, 160, 200)]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(sys, "argv", ["int8_loss", str(tmp_path), "--out", str(tmp_path / "losses.json")])
    int8_loss.main()
    found = json.loads((tmp_path / "losses.json").read_text())
    assert found["losses"]["lora"] == {"0": 0.0, "1": 1.0, "2": 2.0}
    expected = stats.ttest_1samp([0.1, 0.2, 0.3], 0).confidence_interval()
    assert found["difference"] == pytest.approx({"mean": 0.2, "low": expected.low, "high": expected.high})


def test_the_committed_difference_is_that_of_the_committed_losses():
    kept = json.loads((REPOSITORY / "docs/results/adapters/losses.json").read_text())
    assert int8_loss.compared(*(kept["losses"][arm] for arm in int8_loss.ARMS)) == pytest.approx(kept["difference"])
