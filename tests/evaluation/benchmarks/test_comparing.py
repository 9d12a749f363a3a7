"""Two models on the same items, and the page beside the paper's numbers."""

import json

import pytest

from sgt_jax.commands import evaluate
from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import comparing, registry, runs
from sgt_jax.reporting import benchmark_page
from tests.support import benchmark_folders as folders


def answered(tmp_path, name, out, right, style="toolkit", benchmark=None):
    """A run that answers rightly where `right(number)` says so; returns its folder."""
    benchmark = benchmark or registry.by_name(name)
    folder = tmp_path / "data" / name
    if not folder.exists():
        folders.toolkit_tables(tmp_path / "data", name)
    other = {"A": "B", "B": "A", "Yes": "No", "No": "Yes"}

    def answer(questions, records):
        for number, question in enumerate(questions):
            truth = question.item.row["answer"]
            reply = truth if right(number) else other.get(truth, "A")
            records.append({"index": question.item.index, "reply": reply})

    runs.run(benchmark, folder, tmp_path / out / name, answer, runs.Settings(style=style, weights=out, model=out))
    return tmp_path / out


def test_a_difference_is_paired_and_names_what_moved(tmp_path, capsys):
    a = answered(tmp_path, "hallusion_bench", "a", lambda n: n % 2)
    b = answered(tmp_path, "hallusion_bench", "b", lambda n: n % 2 or n < 20)  # all of VD is right, VS as before
    assert evaluate.main(["--compare", str(a), str(b)]) == 0
    printed = capsys.readouterr().out
    assert "hallusion_bench: 50.00 -> 75.00, +25.00 points [" in printed and "on 40 items, discordant 25.0 %" in printed
    assert "moved: VD (20) +50.0" in printed and "VS" not in printed
    found = comparing.compare(a / "hallusion_bench", b / "hallusion_bench")
    assert found["p"] == pytest.approx(2 * 0.5**10 - 0.5**10) and found["clusters"] < 40


@pytest.mark.parametrize("what", ["style", "items"])
def test_no_difference_is_taken_across_protocols(tmp_path, capsys, what):
    a = answered(tmp_path, "mmvp", "a", lambda n: True)
    if what == "items":
        path = tmp_path / "data" / "mmvp" / "MMVP.tsv"
        path.write_text(path.read_text().replace("pair 0", "pair zero"))
    b = answered(tmp_path, "mmvp", "b", lambda n: True, style="bagel" if what == "style" else "toolkit")
    assert evaluate.main(["--compare", str(a), str(b)]) == 0
    printed = capsys.readouterr().out
    assert "mmvp: no difference is taken, the protocols differ" in printed and "points" not in printed


def test_power_takes_what_two_runs_disagree_about(tmp_path, capsys):
    a = answered(tmp_path, "mmvp", "a", lambda n: n % 4 < 2)
    b = answered(tmp_path, "mmvp", "b", lambda n: n % 4 < 2 or n < 8)
    assert evaluate.main(["mmvp", "vsr", "--power", "1", "--compare", str(a), str(b)]) == 0
    mmvp, vsr = capsys.readouterr().out.splitlines()[1:]
    assert "10.0 % discordant, measured, design effect 2.00" in mmvp and "it has 300: " in mmvp
    assert "7847 for two (10 % discordant pairs assumed, design effect 1.00); it has 1222: 7 seeds" in vsr
    assert evaluate.main(["mmvp", "--power", "50"]) == 1


def whole(name):
    """The benchmark as if it had only the items of its miniature."""
    import dataclasses

    return dataclasses.replace(registry.by_name(name), size=0)


def test_the_page_greys_what_is_not_the_papers_protocol(tmp_path):
    out = answered(tmp_path, "mmvp", "a", lambda n: True, benchmark=whole("mmvp"))
    answered(tmp_path, "vsr", "a", lambda n: True)
    tables, _ = benchmark_page.tables_of(out)
    rows = {(table["title"], row["title"]): row for table in tables for row in table["rows"]}
    mmvp, vsr = rows["Main table", "MMVP"], rows["Proxy ablation", "VSR (zero-shot)"]
    assert (
        mmvp["value"] == "100.00"
        and not mmvp["other"]
        and mmvp["difference"] == "+17.00"
        and mmvp["paper"][1] == "83.33"
    )
    assert vsr["value"] == "100.00" and vsr["other"] == "40 of 1222 items" and vsr["difference"] == "-"
    html = benchmark_page.write(out).read_text()
    assert html.count('<tr class="other">') == 2 and "not the paper's: 40 of 1222 items" in html


def test_every_column_of_the_papers_tables_is_a_benchmark_with_its_variant():
    paper = json.loads((benchmark_page.Path(benchmark_page.resource("package:report/benchmarks.json"))).read_text())
    for suite, table in paper["tables"].items():
        assert tuple(table["columns"]) == registry.SUITES[suite]
        assert all(len(values) == len(table["columns"]) for values in table["rows"].values())
        assert all(len(registry.by_name(name).paper) == 3 for name in table["columns"])


def test_a_folder_without_scores_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"holds no \*/scores.json"):
        comparing.runs_in(tmp_path)
