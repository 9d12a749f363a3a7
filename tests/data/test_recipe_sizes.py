"""The recipe on pictures as large as the real ones: sizes in front of both encoders, several pictures, long conversations."""

import numpy as np
import pytest
from sgt_jax.configs import bagel_7b_sgt

from sgt_jax.data import tasks
from sgt_jax.data.examples import Example, Turn
from sgt_jax.data.layouts.bagel import BagelLayout, SpecialTokens
from sgt_jax.data.packing import lengths
from sgt_jax.data.pictures import resizing
from sgt_jax.data.pipeline import Batches, Component

DATA = bagel_7b_sgt.get_config().data
LAYOUT = BagelLayout(SpecialTokens(1, 2, 3, 4), vit_patch=14, vit_side=70, latent_stride=16, latent_side=64,
                     canvases=((688, 1024), (1024, 688), (1024, 1024)))  # fmt: skip
VIT = {name: resizing.ResizeRule(**part.vit_size) for name, part in DATA.mixture.items()}


def encode(text):
    return [5] * len(text.split())


def blank(width, height):
    return np.full((height, width, 3), 127, np.uint8)


@pytest.mark.parametrize(
    "photo, seen, painted",
    [
        ((2250, 1500), (224, 154), (1024, 688)),
        ((1500, 2250), (154, 224), (688, 1024)),
        ((1500, 1500), (224, 224), (1024, 1024)),
        ((400, 300), (224, 168), (688, 512)),  # small ones are enlarged to a short side of 512
    ],
)
def test_a_photo_to_paint(photo, seen, painted):
    mask = np.zeros((photo[1], photo[0], 3), np.uint8)
    mask[:, photo[0] // 2 :] = (31, 119, 180)
    example = Example("sa_1", image=blank(*photo), mask_picture=mask)
    task = tasks.Proxy("segmentation", encode, VIT["segmentation"], resizing.ResizeRule(**DATA.target_size))
    plan = task(example, np.random.default_rng(0)).plan
    assert plan[0].data.shape[1::-1] == seen and plan[2].data.shape[1::-1] == painted
    # What is to be painted is the mask, in its flat colours and nothing between them.
    assert {tuple(c) for c in plan[2].data.reshape(-1, 3)[::97]} == {(0, 0, 0), (31, 119, 180)}
    assert (plan[0].data == 127).all()


@pytest.mark.parametrize(
    "picture, seen",
    [
        ((640, 480), (644, 476)),
        ((1700, 2200), (756, 980)),
        ((300, 200), (560, 378)),  # small ones are enlarged to a short side of 378
        ((1000, 4000), (252, 980)),  # a long one loses its short side's minimum to the maximum of the long side
    ],
)
def test_a_picture_to_answer_about(picture, seen):
    example = Example("x", image=blank(*picture), turns=(Turn("user", "<image> what ?"), Turn("assistant", "this")))
    sample = tasks.Understanding(encode, VIT["understanding"])(example, np.random.default_rng(0))
    assert sample.plan[0].data.shape[1::-1] == seen
    laid = lengths(LAYOUT.lay_out(sample.plan))
    assert laid["vit"] == seen[0] * seen[1] // 196 and laid["und"] == laid["vit"] + 2 + 4 + 3


def test_several_pictures_share_the_budget_of_pixels():
    def seen(count):
        turns = (Turn("user", "<image>" * count + " compare"), Turn("assistant", "same"))
        example = Example("x", image=blank(980, 980), images=(blank(980, 980),) * count, turns=turns)
        plan = tasks.Understanding(encode, VIT["understanding"])(example, np.random.default_rng(0)).plan
        return [item.data.shape for item in plan if item.type == "vit_image"]

    assert seen(2) == [(980, 980, 3)] * 2
    for count in (3, 8):
        shapes = seen(count)
        assert len(shapes) == count
        # Up to rounding to patches.
        assert shapes[0][0] * shapes[0][1] <= 1.05 * DATA.mixture.understanding.vit_size.max_pixels / count


class Conversations:
    """Every third conversation is too long for a row."""

    def __len__(self):
        return 9

    def __getitem__(self, i):
        answer = "word " * (9_000 if i % 3 == 0 else 20)
        return Example(f"talk {i}", turns=(Turn("user", "go on"), Turn("assistant", answer)))


def test_a_conversation_that_is_too_long_is_counted_and_never_cut():
    part = Component("talk", Conversations(), tasks.Understanding(encode, VIT["understanding"]), 1.0)
    stream = iter(Batches([part], LAYOUT, dict(DATA.budgets), rows=1, pool_size=4, on_bad=DATA.on_bad))
    batches = [next(stream) for _ in range(6)]
    names = [name for _, info in batches for row in info.names for name in row]
    skipped = sum(n for _, info in batches for n in info.skipped.values())
    assert skipped >= len(names) // 3 > 0 and not {f"talk:talk {i}" for i in (0, 3, 6)} & set(names)
    for batch, info in batches:
        # bos and 20 words are supervised, whole: 21 labels each, the last one eos.
        assert np.count_nonzero(batch["labels"]["weight"]) == 21 * len(info.names[0])
