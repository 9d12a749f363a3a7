"""Editing: what is read is the picture before, what is painted the picture after, and the ViT looks only where allowed."""

import numpy as np
import pytest

from sgt_jax.batch import FULL, NOISE
from sgt_jax.data.examples import Example
from sgt_jax.data.layouts.bagel import BagelLayout, SpecialTokens
from sgt_jax.data.pictures.resizing import ResizeRule
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.data.tasks import Editing, TextToImage
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("see", "types"), [(False, "vae_image text vae_image"), (True, "vae_image vit_image text vae_image")]
)
def test_plan_reads_the_old_picture_and_supervises_the_new_one(see, types):
    task = Editing(Tokenizer.nano().encode, ResizeRule(8, 32, 32), ((32, 32),), see)
    example = Scenes(edits=("colour",))[0]
    plan = task(example, RNG).plan
    assert " ".join(item.type for item in plan) == types
    assert [item.loss for item in plan] == [False] * (len(plan) - 1) + [True]
    assert np.array_equal(plan[0].data, example.image) and np.array_equal(plan[-1].data, example.edit.target)
    assert Tokenizer.nano().decode(plan[-2].data) == example.edit.request and plan[-2].droppable
    assert task.condition(example)[-1].type == "text"


def test_an_example_without_an_edit_is_refused_by_name():
    with pytest.raises(DataError, match="scenes/train/0: editing needs a picture and a change"):
        Editing(Tokenizer.nano().encode, ResizeRule(8, 32, 32), ((32, 32),))(Scenes()[0], RNG)


# -- Series of edits, as in editing parquet ----------------------------------------------------------------------------


def series(pictures=3):
    """Pictures that tell their number by their grey, and two wordings a step."""
    images = tuple(np.full((32, 32, 3), 10 * number, np.uint8) for number in range(pictures))
    instructions = [[f"paint the circle {word}" for word in ("red", "blue")] for _ in range(pictures - 1)]
    return Example("edits.parquet/7", images[0], images, extra={"instructions": instructions})


def shown(plan):
    """The plan in short: V clean latents, I seen by the ViT, P painted, each with its picture's number; T text."""
    letters = {"vit_image": "I", "vae_image": "V"}
    return " ".join(
        "T" if item.type == "text" else f"{'P' if item.loss else letters[item.type]}{int(item.data[0, 0, 0]) // 10}"
        for item in plan
    )


def task(**options):
    return Editing(Tokenizer.nano().encode, ResizeRule(8, 32, 32), ((32, 32),), see=True, **options)


def test_series_are_cut_into_one_or_two_steps():
    seen = {shown(task(joined_rate=0.0)(series(), np.random.default_rng(seed)).plan) for seed in range(40)}
    assert seen == {"V0 I0 T P1", "V1 I1 T P2", "V0 I0 T P1 V1 I1 T P2"}
    joined = [task(joined_rate=1.0)(series(), np.random.default_rng(seed)).plan for seed in range(40)]
    assert {shown(plan) for plan in joined} == {"V0 I0 T P1", "V1 I1 T P2", "V0 I0 T P2"}
    two = next(plan for plan in joined if shown(plan) == "V0 I0 T P2")
    single = next(plan for plan in joined if shown(plan) == "V0 I0 T P1")
    assert len(two[2].data) > len(single[2].data)
    assert shown(task()(series(2), RNG).plan) == "V0 I0 T P1"


def test_everything_read_may_be_dropped_and_nothing_painted():
    plan = task(joined_rate=0.0)(series(2), RNG).plan
    assert [item.droppable for item in plan] == [True, True, True, False]
    assert [item.loss for item in plan] == [False, False, False, True]


def test_layout_of_two_steps():
    """Painted latents are seen by nobody later and leave the counter; their clean copy stands at the same position."""
    tokens = SpecialTokens(1, 2, 3, 4)
    layout = BagelLayout(tokens, vit_patch=8, vit_side=8, latent_stride=8, latent_side=8, canvases=((32, 32),))
    seed = next(s for s in range(40) if len(task(joined_rate=0.0)(series(), np.random.default_rng(s)).plan) == 8)
    plan = task(joined_rate=0.0)(series(), np.random.default_rng(seed)).plan
    lanes = layout.lay_out(plan)
    words = [len(item.data) + 2 for item in plan if item.type == "text"]
    gen, und = lanes["gen"], lanes["und"]
    assert gen["noisy"].tolist() == [0] * 16 + [1] * 16 + [0] * 16 + [1] * 16
    assert lanes["pixels:32x32"]["pixels"][:, 0, 0, 0].tolist() == [0, 10, 10, 20]
    assert gen["picture:32x32"].tolist() == np.repeat([0, 1, 2, 3], 16).tolist()
    assert gen["split"].tolist() == np.repeat([0, 3, 4, 7], 16).tolist()
    assert gen["mode"].tolist() == np.repeat([FULL, NOISE, FULL, NOISE], 16).tolist()
    first, second = words
    painted = 2 + first
    assert gen["position"].tolist() == np.repeat([0, painted, painted, painted + 2 + second], 16).tolist()
    assert len(lanes["vit"]["table"]) == 32 and "labels" not in lanes
    texts = und["position"][np.isin(und["split"], (2, 6))]
    assert texts.tolist() == [*range(2, painted), *range(painted + 2, painted + 2 + second)]
    dropped = layout.lay_out(plan, lambda: 0.0)
    assert dropped["gen"]["noisy"].tolist() == [1] * 32 and "vit" not in dropped


def test_a_series_without_an_instruction_for_every_step_is_refused():
    example = series()
    example.extra["instructions"].pop()
    with pytest.raises(DataError, match="edits.parquet/7: editing needs .* 3 pictures and 1 instructions"):
        task()(example, RNG)


def test_one_of_several_captions_is_drawn():
    encode = Tokenizer.nano().encode
    example = Example(
        "x", np.zeros((32, 32, 3), np.uint8), caption="a circle", extra={"captions": ["a circle", "a square"]}
    )
    made = TextToImage(encode, ((32, 32),))
    drawn = {tuple(made(example, np.random.default_rng(seed)).plan[0].data) for seed in range(20)}
    assert drawn == {tuple(encode("a circle")), tuple(encode("a square"))}
