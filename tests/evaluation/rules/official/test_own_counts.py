"""Where an official count is a trap, ours stands beside it under another name, and differs as it should."""

import pytest

from sgt_jax.evaluation.benchmarks import registry
from sgt_jax.evaluation.benchmarks.items import Item
from sgt_jax.evaluation.benchmarks.pictures import Prompt
from sgt_jax.evaluation.rules.official import dpg


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
