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
    assert not every[parts > 1].any()


def test_the_readmes_scene_is_one_that_four_seeds_segment_right():
    which = "headline:sgt"
    found = segment_example.read(which)
    right, parts = found.right[:4], np.array(found.parts)
    by_seed, every = right.sum(1).tolist(), right.all(0)
    readme = " ".join((REPOSITORY / "README.md").read_text().split())
    words = f"{', '.join(map(str, by_seed[:-1]))} and {by_seed[-1]}"
    assert f"of {len(parts)}, these runs segment {words} right, {every.sum()} in all four" in readme
    assert every[parts == 3].sum() == 1 and "one of these with three discs" in readme
    shown = np.asarray(Image.open(REPOSITORY / "docs/figures/sample/discs.png"))
    np.testing.assert_array_equal(shown, segment_example.source(which)[276].image)
    assert every[276] and "number 276" in readme
