"""A study's report from its files: planted effects are found, nulls are not, and what is missing is said."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sgt_jax.configs.study import proxies

from sgt_jax.assets import resource
from sgt_jax.commands import report as command
from sgt_jax.errors import DataError
from sgt_jax.study import page as study_page
from sgt_jax.study import records, tables
from sgt_jax.study.arms import runs
from sgt_jax.study.run import write_study

KINDS = ["count", "left_right", "colour_of", "arithmetic", "leftmost"] * 60
ITEMS = {"answers": ("accuracy", 300), "pope": ("accuracy", 180), "prompts": ("accuracy", 120), "edits": ("exact", 90),
         "masks": ("miou", 40)}  # fmt: skip
LABELS = {
    "answers": {"kind": KINDS},
    "pope": {"category": ["random", "popular", "adversarial"] * 60, "picture": [str(i // 6) for i in range(180)]},
    "prompts": {"tag": ["counting", "position"] * 60},
    "edits": {"kind": ["colour", "shape", "remove"] * 30},
    "masks": {},
}
# How often an arm is right where it differs from the rest.
EFFECTS = {("segmentation", "vision"): 0.25, ("edges", "vision"): 0.0}


def results(folder, arms, seeds=(0, 1, 2)):
    """A results folder as a study writes it, with `EFFECTS` planted."""
    config = proxies.get_config()
    config.seeds = tuple(seeds)
    write_study(config, folder)
    records.write_json(folder / records.ITEMS, LABELS)
    easy = {name: np.random.default_rng(1).random(n) for name, (_, n) in ITEMS.items()}
    for number, run in enumerate(runs(config)):
        if run.arm not in arms:
            continue
        rng, items = np.random.default_rng((2, number)), {}
        for name, (item, n) in ITEMS.items():
            ability = np.full(n, 0.5)
            if name == "answers":
                ability[np.isin(KINDS, config.scores.vision.of)] += EFFECTS.get((run.arm, "vision"), 0.0)
            right = easy[name] < ability + rng.normal(0, 0.05, n)
            items[name] = {item: records.pack(right if name != "masks" else rng.random(n))}
        trained = config.arms[run.arm].get("total_steps", 400) > 0
        record = dict(arm=run.arm, seed=run.seed, steps=400 * trained, fingerprint="x", items=items,
                      samples=dict(understanding=6400) if trained else {},
                      timing=dict(start=1.0, training=200.0, evaluation=9.0, other=1.0, resumed_at=0))  # fmt: skip
        records.write_json(folder / records.RUNS / f"{run.name}.json", record)
    return folder


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    from etils import epath

    return results(epath.Path(tmp_path_factory.mktemp("complete")), ("base", "sft", "segmentation", "edges"))


def test_planted_effects_are_found_and_nulls_are_not(complete):
    found = tables.read_results(complete)
    columns = {c.name: c for c in tables.columns(found)}
    cell = columns["vision"].cells["segmentation"]
    for reference in ("sft", "base"):
        d = cell.against[reference].difference
        assert d.low > 0 and abs(d.value - 0.25) < 0.1 and cell.adjusted[reference] < 0.05
    assert columns["vision"].cells["edges"].against["sft"].difference.low < 0
    assert columns["attributes"].cells["segmentation"].against["sft"].difference.low < 0
    assert "sft" not in columns["vision"].cells["sft"].against
    assert columns["vision"].cells["base"].value.n == 120  # two of the five kinds are vision-centric
    assert dict(tables.by_kind(found, "prompts", "accuracy"))["counting"].keys() == found.records.keys()


def test_the_claim_names_arm_gain_interval_and_rival(complete):
    found = tables.read_results(complete)
    text = study_page.claim(found, {c.name: c for c in tables.columns(found)})
    assert text.startswith("With 3 seeds, segmentation raises the vision-centric score against sft: +")
    assert "95% interval +" in text and "after Holm" in text
    assert text.endswith("By its mean it is the best of the 2 arms beside sft and base.")


def test_the_tables_as_markdown(complete, capsys):
    command.main([str(complete), "--markdown"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("> With 3 seeds, segmentation raises the vision-centric score")
    _, gains, _ = (line for line in lines if line.startswith("| segmentation "))  # scores, against sft, against base
    assert re.search(r"\| \*\*\+2\d\.\d\*\*\* \[\+1\d\.\d, \+\d\d\.\d\] \|", gains), gains
    assert {line.count("|") for line in lines if line.startswith("|")} == {lines[4].count("|")}


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.outside, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href") and value and not value.startswith(("data:", "#")):
                self.outside.append(value)


def test_the_page_is_whole_self_contained_and_repeatable(complete, capsys):
    command.main([str(complete)])
    assert capsys.readouterr().out.strip() == str(complete / "report.html")
    page = (complete / "report.html").read_text()
    links = _Links()
    links.feed(page)
    assert not links.outside and links.tags.count("svg") == 9, "a forest plot a score, and one of the overall score"
    first = links.tags.index("header") + 1
    assert links.tags[first : first + 3] == ["h1", "figure", "svg"]
    assert re.search(
        r"<h1>Better: segmentation is 2\d\.\d points above sft in “vision-centric” \(95.*; 3 seeds\)\.</h1>", page
    )
    assert "Does segmentation change the score “vision-centric” against sft?" in page
    # Sorted: what gains most stands first, and the tables are folded.
    told = re.search(r'aria-label="vision: vision-centric, points over sft: ([^"]*)"', page)[1]
    assert [entry.split()[0] for entry in told.split("; ")] == ["segmentation", "base", "edges"], told
    assert page.index('id="scores"') > page.index('<details class="fold"') > page.index("Every score against sft")
    assert Path(resource("package:report/style.css")).read_text() in page, "in <style> nothing is unescaped"
    assert "10 of 25 runs done" in page and "Unfinished" in page
    for arm in ("base", "sft", "segmentation", "edges"):
        assert f'<th scope="row">{arm}</th>' in page
    # Ours are not the benchmarks after whose manner they are.
    assert "GenEval-style, points over sft" in page and "(POPE-style)" in page and "prompts: GenEval," not in page
    assert "CV-Bench" in page and "79.23" in page  # the paper's numbers beside ours
    command.main([str(complete)])
    assert (complete / "report.html").read_text() == page


def test_an_unfinished_study_reports_what_there_is(tmp_path):
    from etils import epath

    folder = results(epath.Path(tmp_path), ("base", "segmentation"), seeds=(0,))
    page = study_page.build(folder).read_text()
    assert "No claim yet: segmentation and sft have no seed in common so far." in page
    assert "<h1>Not decided: 2 runs have ended, and segmentation and sft have no seed in common so far.</h1>" in page
    for path in (folder / records.RUNS).glob("*.json"):
        path.unlink()
    with pytest.raises(DataError, match="no run has come to its end"):
        study_page.build(folder)
    with pytest.raises(DataError, match="give the --results of a study"):
        tables.read_results(tmp_path / "nowhere")


def test_numbers_survive_packing():
    for values in ([0, 1, 1], [0.123449, 1.0], [True, False]):
        assert np.allclose(records.unpack(json.loads(json.dumps(records.pack(values)))), values, atol=5e-5)
    assert records.pack([1, 0, 1]) == "101"
