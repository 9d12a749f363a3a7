"""Every layout that users have is read: the official files, the hub's parquet, the toolkit's table."""

import json

import pytest

from sgt_jax.errors import ConfigError, DataError
from sgt_jax.evaluation.benchmarks import answering, registry, runs
from sgt_jax.evaluation.rules.official import bagel
from tests.support import benchmark_folders as folders

# A score of each benchmark with the recorded replies.
WANTED = {
    "cv_bench": ("CV-Bench", (0.4166666666666667 + 0.425) / 2),
    "mmvp": ("Overall", 0.5),
    "vsr": ("f1_score", 0.606060606060606),
    "pope": ("popular / precision", 80.0),
    "hallusion_bench": ("Overall / qAcc", 53.333333333333336),
    "mmstar": ("Overall", 0.4375),
    "realworldqa": ("Overall", 0.4722222222222222),
    "mathvista": ("Overall / acc, rules only", 31.818181818181817),
    "mmbench": ("dev / Overall", 0.26666666666666666),
    "mme": ("perception", 1225.0),
    "sibench": ("mean score, no judge", 0.304 * 50 / 52),  # the two replies by which the official scorer stops count 0
}


@pytest.mark.parametrize("name, layout", folders.LAYOUTS)
def test_a_layout_gives_the_same_kind_of_items(tmp_path, name, layout):
    write, count, words, answer = folders.LAYOUTS[name, layout]
    write(tmp_path / name)
    benchmark = registry.by_name(name)
    asked = answering.questions(benchmark, runs.load(benchmark, tmp_path / name), "toolkit")
    assert len(asked) == count and not [q.bad for q in asked if q.bad]
    assert words in asked[0].text and asked[0].item.row["answer"] == answer
    assert all(picture.decode().ndim == 3 for q in asked for picture in q.item.pictures)
    perfect = [q.item.row.get("answer_option") or q.item.row["answer"] for q in asked]
    outcome = benchmark.score([q.item for q in asked], perfect, "toolkit")
    assert all(hit == 1 for hit in outcome.hits[outcome.main])


@pytest.mark.parametrize("name", [*folders.TABLES, "sibench"])
def test_replies_to_the_toolkits_tables_score_as_recorded(tmp_path, name):
    """Through all of reading, answering, scoring and writing: with the recorded replies come the recorded scores."""
    folder, benchmark = folders.toolkit_tables(tmp_path / "data", name), registry.by_name(name)
    recorded = {"sibench": ("sibench",)}.get(name) or folders.TABLES[name]
    replies, expected = {}, {}
    for one in recorded:
        prefix = {"cv_bench": f"{one[-2:]}/", "sibench": "Height/"}.get(name, "")
        given = json.loads((folders.GOLDEN / one / "replies.json").read_text())
        replies |= {prefix + key: reply for key, reply in given.items()}
        expected |= {
            prefix + str(e["index"]): e
            for e in json.loads((folders.GOLDEN / one / "expected.json").read_text())["items"]
        }

    def answer(questions, records):
        for question in questions:
            records.append({"index": question.item.index, "reply": replies[question.item.index]})

    entries = runs.run(benchmark, folder, tmp_path / "out", answer, runs.Settings())
    lines = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    main = {"sibench": "official", "mathvista": "rules"}.get(name, "toolkit")
    if name != "mmbench":  # whose recorded hits are those of groups
        assert {e["index"]: e["hits"][main] for e in lines} == {
            k: e.get("hit", e.get("score")) or 0 for k, e in expected.items()
        }
    values = {key.replace(" (lower bound)", "").split(" [")[0]: value for key, value in entries["scores"].items()}
    wanted = WANTED[name]
    assert values[wanted[0]] == pytest.approx(wanted[1], abs=1e-9)
    size = benchmark.size
    assert all(f"of {size} items]" in key for key in entries["scores"]) if size else entries["complete"]
    judged = (tmp_path / "out" / "judge.jsonl").read_text().splitlines()
    assert len(judged) == entries["replies for a judge"] > 0


def test_prompts_are_those_of_the_protocols(tmp_path):
    items = runs.load(registry.by_name("mmstar"), folders.toolkit_tables(tmp_path, "mmstar"))
    assert registry.by_name("mmstar").prompt(items[1], "toolkit") == (
        "Question: Look at the upper part. Which thing is there? (case 1)\nOptions:\nA. ribbon\nB. tile\n"
        "Please select the correct answer from the options above. \n"
    )
    items = runs.load(registry.by_name("mmbench"), folders.toolkit_tables(tmp_path, "mmbench"))
    assert registry.by_name("mmbench").prompt(items[0], "bagel") == (
        "Only the small things matter.\nWhat covers the left half? #0\nA. plate\nB. ball\nC. tile\nD. star\n"
        + bagel.LETTER_ANSWER
    )
    items = runs.load(registry.by_name("sibench"), folders.toolkit_tables(tmp_path, "sibench"))
    texts = [registry.by_name("sibench").prompt(item, "toolkit") for item in items]
    assert texts[0].endswith("answer with letters only.") and texts[4] == items[4].row["question"]


def test_bagels_prompt_brings_bagels_scores(tmp_path):
    for name, key in (
        ("mmvp", "pairs by BAGEL's rule"),
        ("pope", "mean F1 by BAGEL's rule"),
        ("mme", "perception by BAGEL's rule"),
    ):
        items = runs.load(registry.by_name(name), folders.toolkit_tables(tmp_path, name))
        outcome = registry.by_name(name).score(items, [item.row["answer"] for item in items], "bagel")
        assert outcome.scores[key] in (1.0, 2000.0) and outcome.hits["BAGEL"] == [1.0] * len(items)


def test_rotations_are_added_where_the_file_has_none(tmp_path):
    folders.mmbench_official(tmp_path / "mmbench")
    items = runs.load(registry.by_name("mmbench"), tmp_path / "mmbench")
    assert [item.index for item in items[:3]] == ["1", "1000001", "2000001"]
    assert [(item.row[item.row["answer"]], item.row["answer"]) for item in items[:3]] == [
        ("dog", "B"),
        ("dog", "A"),
        ("dog", "C"),
    ]


def test_what_is_missing_is_said_in_one_line(tmp_path):
    with pytest.raises(DataError, match="no such folder; docs/benchmarks.md"):
        runs.load(registry.by_name("mmvp"), tmp_path / "nowhere")
    for name in registry.UNDERSTANDING:
        with pytest.raises(DataError, match="holds (neither|no) "):
            runs.load(registry.by_name(name), tmp_path)


def test_suites_stand_for_their_benchmarks():
    assert registry.names(["sgt-main", "mmvp"])[0] == "mmvp" and len(registry.names(["sgt-main", "mmvp"])) == 8
    with pytest.raises(ConfigError, match="no benchmark 'mvp'; did you mean 'mmvp'"):
        registry.names(["mvp"])
