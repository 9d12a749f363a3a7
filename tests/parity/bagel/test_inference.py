"""The parity command on the public folder: packing and resizing, absent files, wrong numbers, exit status."""

import json
import shutil

import numpy as np
import pytest

from sgt_jax.commands import parity
from sgt_jax.data.layouts import bagel
from sgt_jax.parity import sections
from sgt_jax.parity.bagel import positions
from sgt_jax.parity.bagel.folder import Folder
from sgt_jax.parity.bagel.sections import SECTIONS
from tests.support import paths

GOLDEN = paths.GOLDEN / "bagel"


@pytest.fixture(scope="module")
def folder():
    return Folder(GOLDEN)


@pytest.fixture
def part(tmp_path):
    """A folder with only the small files of the data sections."""
    shutil.copytree(GOLDEN / "ckpt", tmp_path / "ckpt", ignore=shutil.ignore_patterns("*.safetensors"))
    for name in ("resize_cases.json", "packing_cases.json", "packing_cases.npz", "packing_stream.json"):
        shutil.copy(GOLDEN / name, tmp_path / name)
    return tmp_path


def failures(checks):
    return [check.array for check in checks if check.ok is False]


def test_every_array_of_a_packing_case_is_compared(folder):
    recorded = set(folder.arrays("packing_cases.npz"))
    compared = {check.array for check in sections.run(folder, SECTIONS, ["packing"])}
    assert {name for name in recorded if not name.endswith("flex_equals_nested")} <= compared


def test_wrong_weights_and_positions_are_noticed(folder, monkeypatch):
    lay_out = bagel.BagelLayout.lay_out

    def shifted(self, plan, uniform=None, name="sample"):
        lanes = lay_out(self, plan, uniform, name)
        if "labels" in lanes:
            lanes["labels"]["weight"] = lanes["labels"]["weight"] * 1.001
        lanes["und"]["position"][-1] += 1
        return lanes

    monkeypatch.setattr(bagel.BagelLayout, "lay_out", shifted)
    wrong = failures(sections.run(folder, SECTIONS, ["packing"]))
    assert "case0/packed_position_ids" in wrong and "case0/ce_loss_weights" in wrong
    assert "case0/packed_label_ids" not in wrong


def test_resize_rules_are_told_apart_by_column(part):
    cases = json.loads((part / "resize_cases.json").read_text())
    assert Folder(part).resize_rule == "sgt"
    (part / "resize_cases.json").write_text(json.dumps([{k: v for k, v in c.items() if k != "out_wh"} for c in cases]))
    assert Folder(part).resize_rule == "bagel"
    assert not failures(sections.run(Folder(part), SECTIONS, ["resize"]))
    swapped = [{**c, "out_wh": c["out_wh_upstream"]} for c in cases]
    (part / "resize_cases.json").write_text(json.dumps(swapped))
    assert failures(sections.run(Folder(part), SECTIONS, ["resize"])) == ["out_wh"]


def test_exit_status_and_json(part, capsys):
    assert parity.main([str(part)]) == 0
    printed = capsys.readouterr().out
    assert "absent: inference" in printed and "not applicable" in printed
    assert parity.main([str(part), "--strict"]) == 1
    capsys.readouterr()

    assert parity.main([str(part), "--json", "resize", "packing_stream"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] and report["absent"] == []
    assert {check["section"] for check in report["checks"]} == {"resize", "packing_stream"}

    arrays = dict(np.load(part / "packing_cases.npz"))
    arrays["case1/packed_position_ids"] = arrays["case1/packed_position_ids"] + 1
    np.savez(part / "packing_cases.npz", **arrays)
    assert parity.main([str(part), "packing"]) == 1
    assert "NO" in capsys.readouterr().out


def test_a_damaged_section_fails_and_the_others_go_on(part, capsys):
    arrays = dict(np.load(part / "packing_cases.npz"))
    np.savez(part / "packing_cases.npz", **{k: v for k, v in arrays.items() if k != "case3/uniform_draws"})
    assert parity.main([str(part), "packing", "resize", "--json"]) == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [c["note"][:19] for c in checks if c["ok"] is False] == ["stopped by KeyError"]
    assert {c["section"] for c in checks if c["ok"]} == {"packing", "resize"}


def test_wrong_calls_are_one_line(tmp_path, capsys):
    assert parity.main([str(tmp_path)]) == 2
    assert parity.main([str(GOLDEN), "nonsense"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("error: ") for line in lines)


def test_interpolated_positions_may_differ_only_where_float32_rounds(folder):
    grid, side = (49, 2), 70
    got = bagel.table_positions(*grid, side, True)
    at = np.arange(49).repeat(2)
    reference = got - side * (at == 14)
    assert positions._interpolated("a", got, reference, grid, side).ok
    assert not positions._interpolated("a", got, got - side * (at == 15), grid, side).ok
