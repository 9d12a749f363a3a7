"""Where an official count is a trap, ours stands beside it under another name, and differs as it should."""

import json
import math

import pytest

from sgt_jax.evaluation.benchmarks import registry
from sgt_jax.evaluation.benchmarks.items import Item
from sgt_jax.evaluation.benchmarks.pictures import Prompt
from sgt_jax.evaluation.rules.official import dpg, judged


def scores(name, rows, replies):
    items = [Item(row["index"], {"question": "Is it?", **row}, ()) for row in rows]
    return registry.by_name(name).score(items, replies, "toolkit").scores


def test_groups_of_equal_numbers_are_merged_by_hallusionbench_and_apart_by_us():
    rows = [
        {"index": f"{side}_map_1_0_0_0", "category": side, "l2-category": "map", "answer": "Yes"} for side in ("VD", "VS")
    ]
    found = scores("hallusion_bench", rows, ["Yes", "No"])
    assert found["Overall / fAcc"] == found["Overall / qAcc"] == 0
    assert found["fAcc by our own count, VD and VS apart"] == found["qAcc by our own count, VD and VS apart"] == 50


def test_pope_counts_a_row_once_per_category_and_we_count_it_once():
    rows = [
        {"index": "1", "category": "random,popular,adversarial", "answer": "Yes"},
        {"index": "2", "category": "random", "answer": "Yes"},
    ]
    found = scores("pope", rows, ["Yes", "No"])
    assert found["Overall / Overall"] == pytest.approx(100 * 6 / 7)  # three of four right
    assert found["F1 by our own count, every question once"] == pytest.approx(100 * 2 / 3)  # one of two


def test_categories_of_dpg_see_the_last_tile_and_ours_all():
    asked = [dpg.Question(1, (0,), "entity - whole", "a cup?"), dpg.Question(2, (0,), "colour", "a red one?")]
    prompt = Prompt("one", "a red cup", {"questions": [question._asdict() for question in asked]})
    said = {"one": [{"answers": [["yes", "yes"], ["yes", "yes"], ["yes", "yes"], ["no", "yes"]]}]}
    found = registry.by_name("dpg").aggregate([prompt], said)
    assert (found["entity"], found["entity by our own count, all tiles"]) == (0, 75)
    assert found["colour"] == found["colour by our own count, all tiles"] == 100


def test_geneval_is_a_mean_of_tags_and_the_share_of_pictures_stands_beside_it():
    one = {"tag": "single_object", "include": [{"class": "cup", "count": 1}], "prompt": "a cup"}
    two = {"tag": "two_object", "include": [{"class": "cup", "count": 1}], "prompt": "a cup and"}
    cup = [{"class": "cup", "box": [0, 0, 9, 9], "score": 0.9}]
    seen = {"0": [{"detections": cup}] * 3, "1": [{"detections": []}]}
    found = registry.by_name("geneval").aggregate([Prompt("0", "a cup", one), Prompt("1", "a cup and", two)], seen)
    assert (found["overall"], found["pictures"], found["prompts with a right picture"]) == (0.5, 0.75, 0.5)
    assert found["overall by our own count, colours of all objects"] == 0.5


def test_geneval_merges_equal_prompts_and_looks_at_the_best_objects_only_and_ours_does_not():
    red = {"tag": "colors", "include": [{"class": "cup", "count": 1, "color": "red"}], "prompt": "a red cup"}
    cups = [{"class": "cup", "box": [0, 0, 9, 9], "score": score, "color": colour}
            for score, colour in ((0.9, "blue"), (0.8, "red"))]  # fmt: skip
    seen = {"0": [{"detections": cups[1:]}], "1": [{"detections": cups}]}
    found = registry.by_name("geneval").aggregate([Prompt("0", "a red cup", red), Prompt("1", "a red cup", red)], seen)
    assert found["prompts with a right picture"] == 1.0
    assert found["prompts with a right picture by our own count, equal ones apart"] == 0.5
    assert (found["overall"], found["overall by our own count, colours of all objects"]) == (0.5, 1.0)


OWN_DPG = "DPG score by our own count, every question and every ancestor"


def dpg_scores(tmp_path, rows, answers):
    """Scores of one picture of the item `one` from a table of (item, number, parents) and the answers to `one`."""
    head = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language"
    lines = [f'{item},x,,{number},"{parents}",,,entity (x),{item} {number}?' for item, number, parents in rows]
    (tmp_path / "dpg_bench.csv").write_text("\n".join([head, *lines]) + "\n")
    (tmp_path / "prompts.json").write_text(json.dumps({f"{rows[0][0]}.txt": "x"}))
    benchmark = registry.by_name("dpg")
    (prompt,) = benchmark.read(tmp_path)
    told = benchmark.request(prompt)["questions"]
    return benchmark.aggregate([prompt], {prompt.key: [{"answers": [[answers[question] for question in told]]}]})


def test_dpg_skips_the_first_question_and_we_ask_it(tmp_path):
    found = dpg_scores(tmp_path, [("one", 1, "0"), ("one", 2, "0")], {"one 1?": "no", "one 2?": "yes"})
    assert (found["DPG score"], found[OWN_DPG]) == (100, 50)
    assert (found["entity"], found["entity by our own count, all tiles"]) == (100, 50)


def test_a_child_of_a_question_that_the_skipped_one_would_zero_counts_for_dpg_and_not_for_us(tmp_path):
    rows = [("zero", 1, "0"), ("one", 3, "2"), ("one", 2, "1"), ("one", 1, "0")]
    said = {"one 1?": "no", "one 2?": "yes", "one 3?": "yes"}
    found = dpg_scores(tmp_path, [("one", 9, "0"), *rows[1:]], {**said, "one 9?": "yes"})
    assert found["DPG score"] == pytest.approx(100 / 3)  # 3 is looked at before its parent 2 is zeroed
    assert found[OWN_DPG] == 25


def test_dpg_matches_no_file_where_all_names_are_digits_and_we_do(tmp_path):
    found = dpg_scores(tmp_path, [("1", 1, "0"), ("1", 2, "0")], {"1 1?": "yes", "1 2?": "yes"})
    assert math.isnan(found["DPG score"]) and found[OWN_DPG] == 100


def test_an_item_whose_rows_do_not_stand_together_keeps_all_questions_with_us(tmp_path):
    rows = [("one", 1, "0"), ("one", 2, "0"), ("two", 1, "0"), ("one", 3, "0")]
    found = dpg_scores(tmp_path, rows, {"one 1?": "no", "one 2?": "no", "one 3?": "yes"})
    assert (found["DPG score"], found[OWN_DPG]) == (100, pytest.approx(100 / 3))


def test_lines_without_a_score_drop_out_of_wise_2026_and_are_wrong_by_our_count():
    prompts = [Prompt(str(i), "x", {"prompt_id": i}) for i in range(1, 1001)]
    said = {str(i): [{"score": 1 if i % 2 else "none"}] for i in range(1, 1001)}
    found = registry.by_name("wise").aggregate(prompts, said)
    assert (found["WISE 2026"], found["lines without a score"]) == (pytest.approx(1.0), 500)
    assert found["WISE 2026 by our own count, a line without a score is wrong"] == pytest.approx(0.5)


def test_the_chinese_part_of_gedit_is_nothing_as_zh_and_ours_stands_beside_it():
    rows = [("ps_human", "cn", True), ("tone_transfer", "cn", False), ("text_change", "en", True)]
    prompts = [Prompt(f"{kind}/{language}/k", "x", {"task_type": kind, "instruction_language": language,
               "Intersection_exist": there}) for kind, language, there in rows]  # fmt: skip
    said = {p.key: [{"semantics": 4 * n, "quality": 4 * n}] for n, p in enumerate(prompts, 1) if n < 3}
    found = registry.by_name("gedit").aggregate(prompts, said)
    assert math.isnan(found["zh / overall"]) and math.isnan(found["cn / overall_intersection"])
    ours = "zh (in the data cn) / overall{} by our own count, groups that have items"
    assert (found["cn / overall"], found[ours.format("")], found[ours.format("_intersection")]) == (6, 6, 4)
    assert not any(name.startswith("zh / overall /") for name in found)


def test_groups_without_items_of_a_language_leave_gedit_no_mean_and_ours_passes_them_over():
    prompts = [Prompt(f"{k}/{n}/k", "x", {"task_type": k, "instruction_language": n, "Intersection_exist": True})
               for k, n in (("ps_human", "en"), ("tone_transfer", "cn"))]  # fmt: skip
    found = registry.by_name("gedit").aggregate(prompts, {p.key: [{"semantics": 9, "quality": 4}] for p in prompts})
    assert math.isnan(found["en / overall"])
    assert found["en / overall by our own count, groups that have items"] == 6


# (the judge's text, the official mean, ours)
IMGEDIT = [
    ("Prompt Compliance: 4\nVisual: 3\nDetail: 5", 4.0, 4.0),
    ("A: 4\nB: 3\nC: 5\nYear: 2026", 509.5, 4.0),  # trap: any line
    ("**A**: 4\n**B:** 3\nC:5", 4.0, 4.0),  # trap: only the first is read
    ("A: 4/5\nB: 3.\nC: **5**", None, 4.0),  # trap: none is
    ("A: 4\nB: 3", 3.5, None),
    ("Note: see: 1\nA: 9\nB: 0", 4.5, None),  # no scores of 1 to 5
    ("I will not score this.", None, None),
    ("3: 4\n1:\n2", 4.0, None),
]


@pytest.mark.parametrize("text, official, ours", IMGEDIT)
def test_lines_that_imgedit_takes_for_scores_and_those_that_we_do(text, official, ours):
    assert judged.read_imgedit(text) == official
    assert judged.plain_imgedit(text) == ours


def test_unread_replies_drop_out_of_imgedit_and_ours_says_how_many():
    prompts = [Prompt(str(n), "x", {"edit_type": "add"}) for n in range(3)]
    said = {str(n): [{"text": IMGEDIT[n + 1][0]}] for n in range(3)}
    found = registry.by_name("imgedit").aggregate(prompts, said)
    assert found["overall by BAGEL's copy"] == 256.75 and found["replies without a score"] == 1
    assert found["overall by our own reading, three scores each"] == 4
    assert found["replies without three scores"] == 0


def test_one_unread_rotation_fails_a_question_of_mmbench_and_ours_reads_it():
    rows = [{"index": str(i), "A": "a cup", "B": "a hat", "answer": "B", "category": "x", "split": "dev"}
            for i in (7, 1_000_007)]  # fmt: skip
    found = scores("mmbench", rows, ["B", "'B'"])
    assert found["dev / Overall (lower bound)"] == 0 and found["circular accuracy by our own reading"] == 1


def test_f1_of_vsr_is_a_fraction_and_ours_in_percent():
    found = scores("vsr", [{"index": "1", "answer": "Yes"}], ["**Yes**"])
    assert (found["f1_score (lower bound)"], found["F1 in percent by our own reading"]) == (0, 100)


def test_mathvista_gives_points_for_nothing_without_ignore_empty_and_reads_no_letter_in_quotes():
    row = {"index": "1", "question_type": "multi_choice", "answer_type": "text", "choices": "['ab', 'cdefgh']",
           "answer": "ab", "answer_option": "A", "task": "x", "skills": "[]"}  # fmt: skip
    found = scores("mathvista", [row, row | {"index": "2"}], ["", "'A'"])
    assert found["official script, quick extraction (lower bound)"] == 0
    assert found["official script, quick extraction, without ignore-empty"] == 1
    assert found["accuracy by our own reading"] == 0.5
