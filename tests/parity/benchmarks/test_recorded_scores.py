"""Every score and hit that was recorded from the official benchmark tools; a changed rule or a changed record is noticed."""

import json
import re
import shutil

import numpy as np
import pytest

from sgt_jax.commands import parity
from sgt_jax.evaluation.rules.official import (
    bagel,
    choices,
    detections,
    dpg,
    judged,
    mathvista,
    sibench,
    tables,
    yes_no,
)
from sgt_jax.parity import sections
from sgt_jax.parity.benchmarks import sections as benchmarks
from tests.support import paths

GOLDEN = paths.GOLDEN / "benchmarks"
NAMES = sorted(benchmarks.open_folder(GOLDEN).benchmarks())


def failures_of(name):
    folder = benchmarks.open_folder(GOLDEN)
    checks = sections.run(folder, sections.known(benchmarks, folder), [name])
    assert checks
    return [check for check in checks if check.ok is False]


def test_every_recorded_score_and_hit_is_reproduced(capsys):
    assert parity.main([str(GOLDEN), "--strict", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert len(NAMES) == 23 and {check["section"] for check in checks} == set(NAMES)
    assert len(checks) > 3500


def without_period(function):
    return lambda *args, **kwargs: function(*(a.replace(".", "") if isinstance(a, str) else a for a in args), **kwargs)


# One rule of each benchmark, changed: (folder, module, name, what it becomes).
PLANTED = [
    ("vlmevalkit_extraction", choices, "_SENTENCE", re.compile(r"answer\s+is\s+\**([ABCD])\b", re.I)),
    ("MMStar", choices, "text_option", lambda reply, options: None),
    ("RealWorldQA", choices, "_SEPARATORS", str.maketrans({mark: " " for mark in ".()[],:;!#{}"})),
    ("CV-Bench-2D", tables, "source_table", tables.accuracy_table),
    ("CV-Bench-3D", choices, "_REFUSALS", ()),
    ("MMVP", tables, "pair_table", lambda hits: {"Average": float(np.mean(hits)), "Overall": float(np.mean(hits))}),
    (
        "MMBench_DEV_EN",
        tables,
        "circular_hits",
        lambda indices, hits: {i % 1_000_000: h for i, h in zip(indices, hits)},
    ),
    ("POPE", yes_no, "read_yes_no", yes_no.plain_yes_no),
    ("VSR-zeroshot", yes_no, "_MARKS", yes_no._MARKS + "*"),
    ("MME", yes_no, "mme_table", lambda rows, hits: {k: v / 2 for k, v in MME_TABLE(rows, hits).items()}),
    ("HallusionBench", yes_no, "_all_right", lambda rows, field: float(np.mean([hit for _, hit in rows]))),
    ("MathVista_MINI", mathvista, "_check", lambda row, reply, first: CHECK(row, reply, first) if first else False),
    ("mathvista_official", mathvista, "edit_distance", lambda a, b: abs(len(a) - len(b))),
    ("sibench", sibench, "read_letter", without_period(sibench.read_letter)),
    ("bagel_mme", bagel, "mme_label", lambda text: "yes" if text.startswith("yes") else "no"),
    ("bagel_mmvp", bagel, "read_mmvp", lambda reply, options: choices.read_choice(reply, options)),
    ("bagel_pope", bagel, "read_pope", lambda reply: "no" if "no" in reply.lower() else "yes"),
    ("geneval", detections, "Options", lambda **given: OPTIONS(**given | {"position_threshold": 0.0})),
    ("gedit", judged, "mean", lambda values: float(np.median(list(values) or [np.nan]))),
    ("wise", judged, "WISE_WEIGHTS", judged.VERIFIED_WEIGHTS),
    ("dpg", dpg, "questions", lambda rows: QUESTIONS(rows, skip_first=False)),
    ("imgedit", judged, "imgedit_overall", lambda averages: round(float(np.median(list(averages.values()))), 2)),
]
MME_TABLE, CHECK, OPTIONS, QUESTIONS = yes_no.mme_table, mathvista._check, detections.Options, dpg.questions


@pytest.mark.parametrize("name, module, attribute, changed", PLANTED, ids=[row[0] for row in PLANTED])
def test_a_changed_rule_is_noticed(monkeypatch, name, module, attribute, changed):
    assert not failures_of(name)
    monkeypatch.setattr(module, attribute, changed)
    assert failures_of(name)


def test_every_benchmark_has_a_planted_change():
    assert {row[0] for row in PLANTED} == set(NAMES) - {"vlmevalkit_routes"}


def copied(tmp_path, *names):
    for name in names:
        shutil.copytree(GOLDEN / name, tmp_path / name)
    return tmp_path


def test_one_benchmarks_folder_is_enough(tmp_path, capsys):
    copied(tmp_path, "MMVP")
    assert parity.main([str(tmp_path / "MMVP"), "--strict"]) == 0
    assert "84 of 84 arrays agree" in capsys.readouterr().out


def test_a_changed_record_fails(tmp_path, capsys):
    path = copied(tmp_path, "MMVP") / "MMVP" / "expected.json"
    recorded = json.loads(path.read_text())
    recorded["score_table"]["rows"][0][1] += 0.01
    path.write_text(json.dumps(recorded))
    assert parity.main([str(tmp_path), "--strict"]) == 1
    assert "83 of 84 arrays agree" in capsys.readouterr().out


def test_a_benchmark_that_we_have_no_rule_for_fails(tmp_path, capsys):
    path = copied(tmp_path, "MMVP") / "MMVP" / "expected.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"benchmark": "Unheard"}))
    assert parity.main([str(tmp_path), "--strict"]) == 1
    assert "a rule for benchmark 'Unheard'" in capsys.readouterr().out


def test_a_file_that_is_missing_fails(tmp_path, capsys):
    (copied(tmp_path, "MMVP") / "MMVP" / "replies.json").unlink()
    assert parity.main([str(tmp_path), "--strict"]) == 1
    assert "replies.json" in capsys.readouterr().out


def test_an_empty_folder_is_no_folder_of_records(tmp_path, capsys):
    assert parity.main([str(tmp_path), "--strict"]) == 2
    assert "recorded from no family" in capsys.readouterr().err


def test_no_check_at_all_is_a_failure(tmp_path, capsys):
    folder = copied(tmp_path, "vlmevalkit_routes") / "vlmevalkit_routes"
    about = json.loads((folder / "route_b" / "about.json").read_text())
    (folder / "route_b" / "about.json").write_text(json.dumps(about | {"placed": []}))
    assert parity.main([str(tmp_path), "--strict"]) == 1
    assert "at least one check" in capsys.readouterr().out
