"""Masks as runs against masks as pictures, and what hundreds of them cost."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures import masks, rle, upright
from sgt_jax.data.pictures.regions import Masks
from sgt_jax.data.proxies import make_pair
from sgt_jax.errors import DataError

RNG = np.random.default_rng(0)
DENSE = np.stack([RNG.random((13, 9)) < share for share in (0.0, 0.1, 0.5, 0.9, 1.0)])
RUNS = Masks.of_runs([rle.encode(mask) for mask in DENSE])


def test_they_read_like_an_array():
    np.testing.assert_array_equal(RUNS, DENSE)
    np.testing.assert_array_equal(RUNS.sum((1, 2)), DENSE.sum((1, 2)))
    np.testing.assert_array_equal(RUNS.any(0), DENSE.any(0))
    np.testing.assert_array_equal(RUNS[np.array([True, False, True, False, True])], DENSE[::2])
    np.testing.assert_array_equal(RUNS[1:3], DENSE[1:3])
    np.testing.assert_array_equal(RUNS[-1], DENSE[-1])
    np.testing.assert_array_equal(Masks(RUNS.shape[1:], [RUNS.merged([1, 2, 3])])[0], DENSE[1:4].any(0))
    np.testing.assert_array_equal(Masks.of_array(DENSE), DENSE)
    for i in (1, 2, 3):
        rows, columns = np.nonzero(DENSE[i])
        assert RUNS.boxes()[i].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(RUNS.centre(i), np.argwhere(DENSE[i]).mean(0))
    for orientation in range(1, 9):
        turned = np.stack([upright.turned(mask, orientation) for mask in DENSE])
        np.testing.assert_array_equal(RUNS.turned(orientation), turned)


def test_masks_of_ids():
    ids = RNG.integers(0, 4, (7, 11))
    np.testing.assert_array_equal(Masks.of_ids(ids, [2, 0, 9]), [ids == 2, ids == 0, ids == 9])


@pytest.mark.parametrize("options", [{}, {"order": "position"}, {"overlap": "given"}, {"max_masks": 2}, {"outline": 1}])
def test_they_are_painted_as_pictures_are(options):
    by_area = np.argsort(-DENSE.sum((1, 2)), kind="stable")
    picture = masks.render(RUNS, **options)
    np.testing.assert_array_equal(picture, masks.render(DENSE, **options))
    if not options:  # by hand
        expected = np.zeros((13, 9, 3), np.uint8)
        for rank, i in enumerate(by_area[:4]):
            expected[DENSE[i]] = masks.distinct_colours(4)[rank]
        np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize(
    "wrong",
    [{"size": [2, 2], "counts": "zzzz"}, {"size": [2, 2], "counts": [5]}, {"size": [10**9, 10**9], "counts": [10**18]},
     {"size": [2, 2], "counts": [-1, 5]}, {"size": [2, 2], "counts": "o" * 40 + "0"}],
)  # fmt: skip
def test_runs_that_cannot_be(wrong):
    with pytest.raises(DataError):
        rle.decode(wrong)


def many(n):
    found = np.zeros((n, 30, 60), bool)
    for i in range(n):
        found[i, 2 * (i // 30) % 30, 2 * (i % 30)] = True
    return found


@pytest.mark.parametrize("proxy", ["segmentation", "instance", "panoptic", "detection", "outlines"])
def test_more_masks_than_256(proxy):
    example = Example("a.jpg", np.zeros((30, 60, 3), np.uint8), masks=Masks.of_array(many(300)))
    target = make_pair(proxy, example, np.random.default_rng(0)).target
    assert len(np.unique(target.reshape(-1, 3), axis=0)) >= (2 if proxy == "outlines" else 300)
    if proxy != "outlines":
        example.masks = Masks.of_array(np.repeat(many(100), 9, axis=0))
        with pytest.raises(DataError, match=r"a\.jpg.*max_masks=700"):
            make_pair(proxy, example, np.random.default_rng(0))
        make_pair(proxy, example, np.random.default_rng(0), max_masks=700)


MEASURE = """
import io, json, resource, sys, time, tracemalloc
import numpy as np
from PIL import Image
from sgt_jax.data.pictures import rle
from sgt_jax.data.proxies import make_pair
from sgt_jax.data.stored.record import Record, decode
H, W, rng, masks = 1500, 2250, np.random.default_rng(0), []
for i in range(300):
    y, x = int(rng.integers(0, H - 200)), int(rng.integers(0, W - 200))
    runs = [x * H + y] + [150, H - 150] * 119 + [150]
    masks.append(dict(size=[H, W], counts=rle.compress([*runs, H * W - sum(runs)])))
out = io.BytesIO(); Image.new("RGB", (W, H)).save(out, "JPEG")
def cost(count):
    record = Record("x", (out.getvalue(),), masks=tuple(masks[:count]))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    example = decode(record)
    if count:
        make_pair("segmentation", example, rng, max_masks=300)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - start
def before():
    start = time.process_time()
    stack = np.stack([rle.decode(m) for m in masks[:30]])
    picture = np.zeros((H, W, 3), np.uint8)
    for i in np.argsort(-stack.sum((1, 2)), kind="stable"):
        picture[stack[i]] = 9
    return 10 * (time.process_time() - start)
cost(0); cost(1)
base = cost(0)
memory, seconds = cost(300)
tracemalloc.start()
cost(300)
arrays = tracemalloc.get_traced_memory()[1] - H * W * 3
tracemalloc.stop()
print(json.dumps(dict(resident=memory * 1024, arrays=arrays, seconds=seconds - base[1], before=before())))
"""


def test_three_hundred_masks_cost_less_than_two_pictures_and_a_fifth_of_the_time():
    """Peak memory of a process only rises, so it is measured in a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert max(found["resident"], found["arrays"]) <= 2 * 1500 * 2250 * 3, found
    assert 5 * found["seconds"] <= found["before"], found
