"""Editing: what is read is the picture before, what is painted the picture after, and the ViT looks only where allowed."""

import numpy as np
import pytest

from sgt_jax.data.examples import DataError
from sgt_jax.data.sources.scenes import Scenes
from sgt_jax.data.tasks import Editing, VitSize
from sgt_jax.data.tokenizer import Tokenizer

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("see", "types"), [(False, "vae_image text vae_image"), (True, "vae_image vit_image text vae_image")]
)
def test_plan_reads_the_old_picture_and_supervises_the_new_one(see, types):
    task = Editing(Tokenizer.nano().encode, VitSize(8, 32, 32), ((32, 32),), see)
    example = Scenes(edits=("colour",))[0]
    plan = task(example, RNG).plan
    assert " ".join(item.type for item in plan) == types
    assert [item.loss for item in plan] == [False] * (len(plan) - 1) + [True]
    assert np.array_equal(plan[0].data, example.image) and np.array_equal(plan[-1].data, example.edit.target)
    assert Tokenizer.nano().decode(plan[-2].data) == example.edit.request and plan[-2].droppable
    assert task.condition(example)[-1].type == "text"


def test_an_example_without_an_edit_is_refused_by_name():
    with pytest.raises(DataError, match="scenes/train/0: editing needs a picture and a change"):
        Editing(Tokenizer.nano().encode, VitSize(8, 32, 32), ((32, 32),))(Scenes()[0], RNG)
