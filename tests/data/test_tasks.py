"""Every task's condition is what training reads before the first supervised item, whatever the example lacks beyond it."""

import numpy as np
import pytest

from sgt_jax.data.examples import Edit, Example, Turn
from sgt_jax.data.pictures.resizing import ResizeRule
from sgt_jax.data.tasks import condition_items, make_task
from sgt_jax.errors import DataError

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 32, 3), np.uint8)
MASKS = np.zeros((1, 40, 32), bool)
MASKS[0, 8:20, 8:20] = True
EXAMPLE = Example(
    "a", PHOTO, masks=MASKS, caption="a red circle", edit=Edit("paint it blue", PHOTO[::-1], {}),
    turns=(Turn("user", "what is this ?"), Turn("assistant", "a circle"), Turn("user", "why ?"),
           Turn("assistant", "it is round")), extra={"captions": ("a red circle", "a circle", "one circle")},
)  # fmt: skip
SPECS = {
    "proxy": dict(task="proxy", proxy="segmentation"),
    "proxy with latents": dict(task="proxy", proxy="segmentation", latents=True),
    "one of two proxies": dict(task="proxy", proxy="segmentation+edges"),
    "the photo as target": dict(task="proxy", proxy="edges", photo_as_target=True),
    "understanding": dict(task="understanding"),
    "text to image": dict(task="text_to_image"),
    "editing": dict(task="editing"),
    "editing seen": dict(task="editing", see=True),
}


def task(**spec):
    return make_task(
        spec, encode=lambda text: [ord(letter) for letter in text], vit_size=ResizeRule(8, 32, 32), canvases=((40, 32),)
    )


def same(one, other):
    facts = [[(item.type, item.loss, item.droppable) for item in plan] for plan in (one, other)]
    return facts[0] == facts[1] and all(np.array_equal(a.data, b.data) for a, b in zip(one, other))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("seed", range(4))
def test_condition_is_the_plan_before_its_first_supervised_item(name, seed):
    made = task(**SPECS[name])
    plan = made(EXAMPLE, np.random.default_rng(seed)).plan
    condition = made.condition(EXAMPLE, np.random.default_rng(seed))
    assert not any(item.loss for item in condition) and plan[len(condition)].loss
    assert same(condition, plan[: len(condition)])


@pytest.mark.parametrize("name", SPECS)
def test_without_a_generator_the_condition_is_always_the_same(name):
    made = task(**SPECS[name])
    assert same(made.condition(EXAMPLE), made.condition(EXAMPLE))


def test_condition_needs_no_answer_and_no_target():
    question = Example("q", PHOTO, turns=(Turn("user", "what is this ?"),))
    picture, words = task(task="understanding").condition(question)
    assert picture.type == "vit_image" and bytes(words.data).decode() == "what is this ?"
    (words,) = task(task="text_to_image").condition(Example("p", caption="a red circle"))
    assert bytes(words.data).decode() == "a red circle" and words.droppable
    with pytest.raises(DataError, match="p: text_to_image needs a caption"):
        task(task="text_to_image").condition(Example("p"))


def test_a_series_of_edits_is_conditioned_on_its_first_picture_and_request():
    series = Example("s", images=(PHOTO, PHOTO[::-1], PHOTO), extra={"instructions": [["turn it"], ["turn it back"]]})
    for seed in range(6):
        plan = task(task="editing")(series, np.random.default_rng(seed)).plan
        assert same(task(task="editing").condition(series, np.random.default_rng(seed)), plan[:2])


def test_latents_of_a_picture_come_before_what_the_encoder_sees_of_it():
    entries = ["before", PHOTO, "after"]
    items = condition_items(
        entries, list, see=lambda p: p[:8], latents=lambda p: p[:16], droppable=("text", "vit_image")
    )
    assert [item.type for item in items] == ["text", "vae_image", "vit_image", "text"]
    assert [item.droppable for item in items] == [True, False, True, True]
    assert [len(item.data) for item in items[1:3]] == [16, 8]
    assert [item.type for item in condition_items(entries, list)] == ["text", "text"]


def test_a_spec_may_have_a_resize_rule_of_its_own_and_an_unknown_task_is_refused():
    seen = task(task="understanding", vit_size=dict(stride=8, min_size=16, max_size=16), weight=1.0, source="x")
    assert max(seen.condition(EXAMPLE)[0].data.shape) == 16
    with pytest.raises(DataError, match="unknown task 'paint'; there are proxy, understanding, text_to_image, editing"):
        task(task="paint")
