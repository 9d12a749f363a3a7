"""Curves of a study's report from planted results: the planted curve is in the figures, tables and sentences."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from etils import epath

from sgt_jax.reporting.page import paper_of
from sgt_jax.study import arms, curves, figures, records, tables
from sgt_jax.study import page as study_page
from sgt_jax.study.run import write_study
from tests.study.test_page import ITEMS, LABELS

FEW = 60  # resamples: intervals are tested elsewhere
SCORED = (0, 100, 200, 400)


def plant(name, folder, right):
    """A results folder whose arms are right as often as `right(arm, share of the training)`."""
    config = importlib.import_module(f"sgt_jax.configs.study.{name}").get_config()
    write_study(config, folder)
    records.write_json(folder / records.ITEMS, {e: LABELS[e] for e in config.base.evaluators})
    easy = {e: np.random.default_rng(1).random(n) for e, (_, n) in ITEMS.items()}

    def items(chance, rng):
        noise = {e: rng.normal(0, 0.03, len(x)) for e, x in easy.items()}
        return {e: {ITEMS[e][0]: records.pack(easy[e] < chance + noise[e])} for e in config.base.evaluators}

    for number, run in enumerate(arms.runs(config)):
        rng, steps = np.random.default_rng((2, number)), config.arms[run.arm].get("total_steps", 400)
        record = dict(arm=run.arm, seed=run.seed, steps=steps, fingerprint="x", items=items(right(run.arm, 1.0), rng),
                      samples={}, timing=dict(start=1.0, training=1.0, evaluation=1.0, other=1.0, resumed_at=0))  # fmt: skip
        if run.arm == "sft":
            record["reused"] = f"proxies/sft_{run.seed}"
        if config.get("history"):
            record["history"] = [
                dict(step=s, samples={}, answer_tokens=192 * s, slots=(160 if run.arm == "sft" else 216) * s,
                     items=items(right(run.arm, s / 400), rng)) for s in (SCORED if steps else (0,))
            ]  # fmt: skip
        records.write_json(folder / records.RUNS / f"{run.name}.json", record)
    return folder


def sections(folder):
    found = tables.read_results(folder)
    return curves.sections(found, tables.columns(found, FEW), paper_of(found.facts["name"]))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(curves, "RESAMPLES", FEW)


@pytest.fixture(scope="module")
def ratio(tmp_path_factory):
    best = {"base": 0.3, "sft": 0.4, "ratio_2_0": 0.7}
    return plant("ratio", epath.Path(tmp_path_factory.mktemp("ratio")), lambda arm, _: best.get(arm, 0.5))


def test_the_overall_score_is_the_mean_of_the_groups(ratio):
    found = tables.read_results(ratio)
    columns = {c.name: c for c in tables.columns(found, 400)}
    groups = [columns[name] for name in found.facts["understanding"]]
    for arm in found.records:
        cell = columns["overall"].cells[arm]
        assert cell.value.value == pytest.approx(np.mean([g.cells[arm].value.value for g in groups]))
        assert cell.value.low < cell.value.value < cell.value.high
        if arm != "sft":
            d = cell.against["sft"].difference
            assert d.value == pytest.approx(np.mean([g.cells[arm].against["sft"].difference.value for g in groups]))
    # Averaging five groups of items makes it surer than any of them.
    widths = [g.cells["ratio_2_0"].value.high - g.cells["ratio_2_0"].value.low for g in groups]
    cell = columns["overall"].cells["ratio_2_0"].value
    assert cell.high - cell.low < min(widths)


def test_the_planted_peak_stands_in_curve_table_and_sentence_beside_the_papers(ratio):
    (section,) = sections(ratio)
    assert "highest at 2: " in section.text and "0 is sft" in section.text
    found = tables.read_results(ratio)
    overall = tables.overall(found, FEW)
    ours, gains, paper = (svg for svg, _ in section.figures[:3])
    value = 100 * overall.cells["ratio_2_0"].value.value
    assert f"2 {value:.1f}" in ours and "0 0.0;" not in gains and "0 0.0," in gains
    assert "paper, BAGEL" in paper and "2 67.8" in paper
    table, theirs = section.tables
    assert [row[0] for row in table.rows] == ["0", "1", "1.5", "2", "2.5", "3"]
    assert table.rows[0][2] == "–" and table.rows[3][2].startswith("+")
    assert theirs.rows[0] == ["BAGEL", "66.05", "66.44", "66.98", "67.01", "67.75", "67.25", "67.06"]


def test_the_page_holds_curves_and_where_shared_runs_come_from(ratio):
    page = study_page.build(ratio).read_text()
    assert "Scores over segmentation examples per understanding example" in page and "67.75" in page
    assert "sft, seed 1 (proxies/sft_1)" in page and "MMVP" not in page
    assert "How many segmentation examples per understanding example are best?" in page


def test_scaling_has_a_logarithmic_axis_with_a_place_for_nothing(tmp_path):
    folder = plant(
        "scaling", epath.Path(tmp_path), lambda arm, _: 0.4 if len(arm) < 5 else 0.4 + 0.05 * np.log10(int(arm[7:]))
    )
    (section,) = sections(folder)
    assert "highest at 30000" in section.text
    svg = section.figures[0][0]
    labels = [svg.index(f">{text}<") for text in ("0", "30", "1k", "30k")]
    assert labels == sorted(labels)
    assert "100000 68.3" in section.figures[2][0]
    places = figures._log_places([0, 10, 1000])
    assert places == {0.0: 0.1, 10: 10, 1000: 1000}


def test_convergence_is_read_at_every_step(tmp_path):
    right = dict(base=lambda s: 0.4, sft=lambda s: 0.4 + 0.2 * s, segmentation=lambda s: 0.4 + 0.3 * min(1, 2 * s))
    folder = plant("convergence", epath.Path(tmp_path), lambda arm, share: right[arm](share))
    (section,) = sections(folder)
    assert "segmentation first is as high at step 200, by its mean" in section.text
    (table,) = section.tables
    assert [row[0] for row in table.rows] == ["0", "100", "200", "400"]
    gains = [float(row[3].split()[0].replace("\N{MINUS SIGN}", "-")) for row in table.rows]
    assert abs(gains[0]) < 3 and gains[2] == pytest.approx(20, abs=6) and gains[3] == pytest.approx(10, abs=6)
    tokens = next(svg for svg, _ in section.figures if "supervised" in svg)
    slots = next(svg for svg, _ in section.figures if "decoder slots" in svg)
    assert "76800" in tokens and "64000" in slots and "86400" in slots
    assert tables.at_step(tables.read_results(folder), 100).records.keys() == {"sft", "segmentation"}


def test_a_reference_that_ends_below_its_start_is_nothing_to_catch_up_with():
    def column(**values):
        return [
            SimpleNamespace(cells={arm: SimpleNamespace(value=SimpleNamespace(value=v)) for arm, v in values.items()})
        ]

    at = {0: column(sft=0.7, segmentation=0.7), 100: column(sft=0.6, segmentation=0.65)}
    said = curves._catches_up(at, "segmentation", "sft")
    said = said.replace("\N{NO-BREAK SPACE}", " ")
    assert said.startswith("sft ends at 60.0 % (step 100), no higher than before training (70.0 %)")
    at[100] = column(sft=0.8, segmentation=0.81)
    assert curves._catches_up(at, "segmentation", "sft").endswith("first is as high at step 100, by its mean.")


def test_a_study_without_axis_or_history_has_no_curves(tmp_path):
    folder = plant("baselines", epath.Path(tmp_path), lambda arm, _: 0.5)
    assert sections(folder) == []
    paper = paper_of("baselines")
    assert any(row[0] == "UniMRG 3.6B" for table in paper["tables"] for row in table["rows"])
    assert paper_of("silhouette")["tables"] == paper_of("proxies")["tables"]
