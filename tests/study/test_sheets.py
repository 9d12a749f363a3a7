"""What the arms paint: grids are cut up again, input and target stand once, and an arm is a column."""

import numpy as np
from etils import epath

from sgt_jax.reporting import grids
from sgt_jax.study import records, sheets


def picture(seed, size=(32, 32)):
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)


def test_a_grid_is_cut_into_the_pictures_that_it_was_made_of():
    rows = [[picture((r, c), (16, 24)) for c in range(3)] for r in range(4)]
    rows[1][1][:, :5] = (205, 205, 210)  # the colour of the frames, right beside one
    found = grids.cells(grids.grid(rows, ["a", "b", "c"], ["a prompt that takes two lines of the sheet"] * 4))
    assert [len(row) for row in found] == [3] * 4
    for row, got in zip(rows, found, strict=True):
        for a, b in zip(row, got, strict=True):
            np.testing.assert_array_equal(a, b)


def test_input_and_target_stand_once_and_every_arm_has_a_column(tmp_path):
    folder = epath.Path(tmp_path)
    (folder / records.PICTURES).mkdir()
    given = [[picture((r, 0)), picture((r, 1))] for r in range(2)]
    for number, arm in enumerate(("sft", "sft_long")):
        for what, rows in {
            "masks": [[*row, picture((r, 2 + number))] for r, row in enumerate(given)],
            "prompts": [[picture((r, 4 + number))] for r in range(2)],
        }.items():
            grids.write_png(folder / records.PICTURES / f"{arm}_{what}.png", grids.grid(rows))
    sheets.save_captions(folder, {"prompts": {"prompt": ["a circle", "two circles"]}, "masks": {"miou": [0.5, 0.5]}})
    evaluators = {"masks": {"type": "masks"}, "prompts": {"type": "prompts"}}
    masks, prompts = sheets.read(folder, ["sft", "sft_long"], evaluators)
    assert masks["columns"] == ["condition", "target", "sft", "sft_long"] and prompts["columns"] == ["sft", "sft_long"]
    assert [caption for caption, _ in prompts["rows"]] == ["a circle", "two circles"]
    assert [len(pictures) for _, pictures in masks["rows"]] == [4, 4]
    assert masks["rows"][0][1][0]["width"] == 32, "not enlarged"
    alone, _ = sheets.read(folder, ["sft_long"], evaluators)
    assert alone["columns"] == ["condition", "target", "sft_long"]
