"""Raw files that are not what they say are refused, and a kind of question takes part only where the bed can tell."""

import json

import numpy as np
import pytest
from etils import epath
from sgt_jax.configs.study import gates as config_file

from sgt_jax.errors import ConfigError, DataError
from sgt_jax.study import decide, gates, records, tables
from tests.support.dots_results import planted

ACCURACY = {  # kind: base, sft, oracle
    "left_right": (0.50, 0.95, 0.99),
    "above_below": (0.60, 0.80, 0.99),
    "leftmost": (0.45, 0.70, 0.95),
    "highest": (0.45, 0.70, 0.80),
    "quadrant": (0.90, 0.99, 1.0),
    "size": (0.6, 0.7, 0.8),
}


def accuracy(arm, seed, kind):
    return ACCURACY[kind][0 if arm == "base" else 2 if arm == "oracle" else 1]


@pytest.fixture
def folder(tmp_path):
    return planted(epath.Path(tmp_path) / "gates", config_file.get_config(), accuracy)


def test_a_kind_takes_part_if_it_has_room_below_and_above(folder):
    found = {g.kind: g for g in gates.kind_gates(tables.read_results(folder))}
    assert [kind for kind, g in found.items() if not g.failed] == ["leftmost"]
    assert found["leftmost"].way == pytest.approx(0.5)
    reasons = {kind: " ".join(g.failed) for kind, g in found.items()}
    assert "% of the way" in reasons["left_right"] and "above chance + 5" in reasons["above_below"]
    assert reasons["highest"] == "the oracle is below 90; SFT is not 30 to 70 % of the way".replace("; ", " ")
    assert "a control" in reasons["quadrant"] and "a control" in reasons["size"]
    text = decide.markdown(config_file.get_config(), folder)
    assert "| leftmost | 44.6 | 45.0 | 70.0 | 95.0 | 50 % | yes |" in text


def test_two_arms_with_their_labels_swapped_are_refused(folder):
    a, b = (folder / records.RUNS / f"{arm}_100.json" for arm in ("sft", "sgt"))
    one, other = json.loads(a.read_text()), json.loads(b.read_text())
    records.write_json(a, {**other, "arm": "sft"})
    records.write_json(b, {**one, "arm": "sgt"})
    with pytest.raises(DataError, match="run s.._100: its fingerprint .* is not that of config.arms"):
        decide.markdown(config_file.get_config(), folder)


def test_a_run_of_another_seed_or_arm_is_refused(folder):
    (folder / records.RUNS / "sft_101.json").unlink()
    path = folder / records.RUNS / "sft_100.json"
    records.write_json(path, {**json.loads(path.read_text()), "seed": 101})
    with pytest.raises(DataError, match="fingerprint"):
        decide.markdown(config_file.get_config(), folder)


def test_answers_permuted_within_a_run_fail_a_gate(folder):
    path = folder / records.RUNS / "sgt_101.json"
    record = json.loads(path.read_text())
    values = list(record["items"]["answers"]["accuracy"])
    np.random.default_rng(0).shuffle(values)
    record["items"]["answers"]["accuracy"] = "".join(values)
    records.write_json(path, record)
    with pytest.raises(DataError, match="run sgt_101: .* control questions 'quadrant' right, and the gate asks 80"):
        decide.markdown(config_file.get_config(), folder)


def test_what_is_missing_is_said(tmp_path):
    study = config_file.get_config()
    part = planted(epath.Path(tmp_path) / "gates", study, accuracy, only=("base", "sft_drawn"))
    with pytest.raises(DataError, match="the gates need runs of oracle"):
        decide.markdown(study, part)
    with pytest.raises(ConfigError, match="--results"):
        decide.markdown(study, "")
