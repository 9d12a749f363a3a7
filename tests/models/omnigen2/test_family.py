"""OmniGen2 behind the face of a family: plans become lanes, one forward trains all, and its sampler reads and paints."""

import functools

import jax
import numpy as np
import pytest

from sgt_jax.data import packing
from sgt_jax.data.examples import PlanItem
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import ConfigError, DataError
from sgt_jax.inference.sampler import Sampler
from sgt_jax.models.family import by_name
from sgt_jax.models.omnigen2.guidance import Guidance
from tests.support import tiny_omnigen2
from tests.support.tiny_omnigen2 import SIZE

FAMILY = by_name("omnigen2")
PHOTO = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
WORDS = [10, 11]
SEEN, TEXT = PlanItem("vit_image", PHOTO), PlanItem("text", WORDS)
REFERENCE, TARGET = PlanItem("vae_image", PHOTO), PlanItem("vae_image", PHOTO, loss=True)
SEGMENT = (SEEN, TEXT, TARGET)
EDIT = (REFERENCE, TEXT, TARGET)
TALK = (SEEN, TEXT, PlanItem("text", [12], loss=True), TEXT, PlanItem("text", [13, 14], loss=True))


@pytest.fixture(scope="module")
def config():
    return tiny_omnigen2.config()


@pytest.fixture(scope="module")
def layout(config):
    return tiny_omnigen2.layout(config)


@pytest.fixture(scope="module")
def model(config):
    return FAMILY.model(config)


@pytest.fixture(scope="module")
def params(model):
    return tiny_omnigen2.random_params(model)


def row(layout, *plans):
    laid = [layout.lay_out(plan) for plan in plans]
    total = {lane: sum(packing.lengths(one).get(lane, 0) for one in laid) for lane in layout.spec}
    packed = packing.pack(laid, layout.spec, total)
    return {lane: {name: x[None] for name, x in fields.items()} for lane, fields in packed.items()}


@pytest.fixture(scope="module")
def step(model, layout):
    """Compiled: parameters, a batch of a segmentation, a conversation and an edit -> outputs and gradients."""

    def loss(params, batch):
        outputs = model.forward(params, batch, model.draw(jax.random.key(0), batch))
        error = (outputs["velocity"] - outputs["velocity_target"]) * outputs["noisy"][..., None]
        answers = jax.nn.logsumexp(outputs["logits"], axis=-1) * batch["labels"]["weight"]
        return (error**2).mean() + answers.mean(), outputs

    return jax.jit(jax.value_and_grad(loss, has_aux=True)), row(layout, SEGMENT, TALK, EDIT)


def test_a_segmentation_shows_the_photo_to_the_language_model_alone(layout):
    lanes = layout.lay_out(SEGMENT)
    # <start> <vision> 4 cells </vision> words <end> <start>: training's header of an answer.
    assert lanes["und"]["token"].tolist() == [1, 3, 0, 0, 0, 0, 4, *WORDS, 2, 1]
    assert lanes["und"]["vit"].tolist() == [-1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1]
    # A picture counts as its longer side: 2 x 2 cells from 2, and the text goes on at 4.
    assert lanes["und"]["position"][:, 0].tolist() == [0, 1, 2, 2, 2, 2, 4, 5, 6, 7, 8]
    assert lanes["und"]["position"][2:6, 1:].tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    assert "ref" not in lanes and len(lanes["gen"]["token"]) == 4 and len(lanes["text"]["slot"]) == 11
    assert lanes["gen"]["position"].tolist() == [[11, 0, 0], [11, 0, 1], [11, 1, 0], [11, 1, 1]]


def test_an_edit_reads_latents_and_ends_with_its_words(layout):
    lanes = layout.lay_out(EDIT)
    assert lanes["und"]["token"].tolist() == [1, *WORDS, 2] and "vit" not in lanes
    assert lanes["ref"]["position"][:, 0].tolist() == [4] * 4 and lanes["gen"]["position"][:, 0].tolist() == [6] * 4
    assert lanes["flow"]["shift"].tolist() == [6] and lanes["flow"]["tokens"].tolist() == [4]
    assert lanes[f"pixels:{SIZE}x{SIZE}"]["pixels"].shape[0] == 2


def test_every_answer_is_learnt_with_the_end_of_its_turn(layout):
    lanes = layout.lay_out(TALK)
    token, labels = lanes["und"]["token"], lanes["labels"]
    assert labels["target"].tolist() == [12, 2, 13, 14, 2]
    assert token[labels["slot"] + 1].tolist() == labels["target"].tolist()
    assert token[labels["slot"]].tolist() == [1, 12, 1, 13, 14]
    assert not {"gen", "text", "flow"} & set(lanes)


def test_the_official_template_is_that_of_the_release(config):
    class Words:
        bos, eos, soi, eoi = 1, 2, 3, 4

        def encode(self, text):
            return [text]

    official = FAMILY.layout(config.replace(template="official"), Words(), canvases=((SIZE, SIZE),)).template
    system = "system\nYou are a helpful assistant that generates high-quality images based on user instructions."
    assert official.system == (1, system, 2, "\n") and official.user == (1, "user\n")
    assert official.assistant == (1, "assistant\n") and official.close == (2, "\n")
    assert official.number(2) == ("<img2>: ",)


def test_one_forward_trains_all_parts(step, params):
    (value, outputs), gradients = step[0](params, step[1])
    assert np.isfinite(value) and outputs["velocity"].shape == (1, 8, 8) and outputs["logits"].shape == (1, 5, 128)
    moved = {name: any(np.any(x) for x in jax.tree.leaves(part)) for name, part in gradients.items()}
    assert moved == {"dit": True, "mllm": True, "vae": False}
    # The segmentation's flow loss reaches the vision tower; the edit's reaches the reference refiner.
    assert np.any(gradients["mllm"]["vision"]["patch_embed"]["kernel"])
    assert np.any(gradients["dit"]["ref_image_patch_embedder"]["kernel"])
    assert np.any(gradients["dit"]["image_index_embedding"])


def test_samples_of_a_row_do_not_see_each_other(step, params):
    other = jax.tree.map(np.copy, step[1])
    edit = other["und"]["sample"] == 3
    other["und"]["token"][edit] = 20
    (_, before), _ = step[0](params, step[1])
    (_, after), _ = step[0](params, other)
    np.testing.assert_allclose(before["velocity"][:, :4], after["velocity"][:, :4], atol=1e-6)
    assert np.abs(before["velocity"] - after["velocity"])[:, 4:].max() > 1e-4


def test_what_cannot_be_laid_out_is_one_line(layout):
    with pytest.raises(DataError, match="multiple of 8"):
        layout.lay_out((PlanItem("vit_image", PHOTO[:12]), TEXT))
    with pytest.raises(DataError, match="no canvas"):
        layout.lay_out((TEXT, PlanItem("vae_image", PHOTO[:8], loss=True)))
    with pytest.raises(DataError, match="6 references"):
        layout.lay_out((*[REFERENCE] * 6, TEXT, TARGET))
    with pytest.raises(ConfigError, match="solver"):
        Guidance(solver="heun")


# One program reads and paints in three branches, another one writes: 30 s to compile.
@pytest.mark.slow
def test_it_answers_and_paints_alike_in_any_batch(config, model, layout, params):
    sampler = Sampler(FAMILY, model, layout, Tokenizer.nano().decode)
    answers = sampler.answer_ids(params, [(SEEN, TEXT)] * 2, max_new_tokens=3, batch=2)
    assert answers[0] == answers[1] and len(answers[0]) <= 3
    paint = functools.partial(sampler.paint, params, shape=(SIZE, SIZE), steps=2, shift=1.0, batch=2)
    guided = Guidance(2.0, 1.5, negative="a red circle")
    both = paint([(REFERENCE, TEXT)] * 2, seeds=[5, 6], guidance=guided)
    alone = paint([(REFERENCE, TEXT)], seeds=[5], guidance=guided)
    assert both.shape == (2, SIZE, SIZE, 3) and both.dtype == np.uint8
    assert np.abs(both[0].astype(int) - alone[0]).max() <= 1 and np.any(both[0] != both[1])
