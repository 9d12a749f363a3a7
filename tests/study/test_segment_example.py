"""What README and docs say of the segment example is what the committed results hold."""

import numpy as np
from PIL import Image

from tests.support import segment_example
from tests.support.paths import REPOSITORY


def test_the_counts_that_are_printed_are_those_of_the_results():
    found = segment_example.read()
    by_seed, every, parts = found.right.sum(1).tolist(), found.right.all(0), np.array(found.parts)
    said = " ".join((REPOSITORY / "docs/results/first_bed.md").read_text().split())
    words = f"{', '.join(map(str, by_seed[:-1]))} and {by_seed[-1]}"
    assert f"the seeds get {words} right, and all five get {every.sum()}" in said
    for n in (1, 2, 3):
        some = found.right.any(0) & (parts == n)
        assert f"| {n} | {(parts == n).sum()} | {(every & (parts == n)).sum()} | {some.sum()} |" in said
    readme = " ".join((REPOSITORY / "README.md").read_text().split())
    assert f"{words} right, {every.sum()} in all five, none of these with two objects" in readme
    assert not every[parts > 1].any()


def test_the_readmes_scene_is_one_that_all_seeds_segment_right():
    assert segment_example.read().right[:, 96].all()
    shown = np.asarray(Image.open(REPOSITORY / "docs/figures/sample/scene.png"))
    np.testing.assert_array_equal(shown, segment_example.source()[96].image)
    assert "number 96" in (REPOSITORY / "README.md").read_text()
