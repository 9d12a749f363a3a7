"""What OmniGen2 paints after: its own answers, latents drawn by a seed, and sizes that it does not paint itself."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.data.examples import PlanItem
from sgt_jax.data.layouts.omnigen2.layout import PAINT, PAINT_AFTER_WORDS
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import ConfigError, DataError
from sgt_jax.inference.assistant import Assistant
from sgt_jax.inference.results import Painting
from sgt_jax.models.family import by_name
from sgt_jax.models.omnigen2.guidance import Guidance, branches
from sgt_jax.models.omnigen2.mllm import generation
from tests.support import tiny_omnigen2
from tests.support.tiny_omnigen2 import SIZE

FAMILY = by_name("omnigen2")
PHOTO = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
SEEN, TEXT = PlanItem("vit_image", PHOTO), PlanItem("text", [10, 11])
DRAW = 7  # stands for <|img|>


@pytest.fixture(scope="module")
def layout():
    return tiny_omnigen2.layout(tiny_omnigen2.config())


@pytest.fixture
def assistant():
    """With the release's template, whose words this tokenizer lacks, and no parameters: nothing is computed."""
    tokens = tiny_omnigen2.values()["tokens"] | {"img_token_id": DRAW}
    return Assistant(FAMILY, tiny_omnigen2.config(template="official", tokens=tokens), None, Tokenizer.nano())


def test_after_words_the_transformer_reads_no_states_of_pictures(layout):
    plan, every = (SEEN, TEXT), branches((SEEN, TEXT), (), Guidance(2.0, features="words"), lambda text: [])
    assert [branch[-1] for branch in every] == [PAINT_AFTER_WORDS] * 2
    whole, words = (layout.lay_out((*plan, paint)) for paint in (PAINT, PAINT_AFTER_WORDS))
    assert np.array_equal(whole["und"]["token"], words["und"]["token"])
    # <start> <vision> 4 cells </vision> two words <end> <start>
    assert words["text"]["slot"].tolist() == [0, 1, 6, 7, 8, 9, 10]
    assert words["text"]["position"][:, 0].tolist() == list(range(7)) and words["flow"]["shift"].tolist() == [7]
    # The header of an answer stands there without pictures, too.
    assert layout.lay_out((TEXT, PAINT_AFTER_WORDS))["und"]["token"].tolist() == [1, 10, 11, 2, 1]
    assert layout.lay_out((TEXT, PAINT))["und"]["token"].tolist() == [1, 10, 11, 2]


def test_an_answer_keeps_the_mark_that_asks_for_a_picture(assistant, monkeypatch):
    steps = assistant.sampler(()).steps
    ids = jnp.asarray([[DRAW, 1, 1], [20, 21, 2], [20, 21, 22]])
    monkeypatch.setattr(generation, "write", lambda *args, **kw: (ids, jnp.asarray([1, 3, 3]), None))
    context = type("Context", (), {"prompt": None})
    _, count = steps.write_text({"mllm": {}}, context, None, None, 0.0, 4, True)
    assert count.tolist() == [2, 3, 4]  # the opening mark counts; the end of a turn does not


def test_a_chat_that_asks_for_a_picture_paints_it_after_the_same_history(assistant, monkeypatch):
    asked = []

    def paint(history, mode, *, seeds, settings):
        asked.append((history, seeds, settings))
        return [Painting(PHOTO)]

    monkeypatch.setattr(assistant, "_answer_ids", lambda *_: [[DRAW], [20, 21]])
    monkeypatch.setattr(assistant, "paint", paint)
    picture, text = assistant.reply([PHOTO, "what is it ?"], seeds=[3, 4])
    assert picture.picture is PHOTO and picture.text == "" and text.picture is None and text.text
    ((history, seeds, settings),) = asked
    assert history[1] == "what is it ?" and seeds == [3]
    assert settings.condition == "both" and settings.guidance.features == "words"
    assert settings.guidance.text_scale == assistant.defaults["edit"].guidance.text_scale


def test_latents_are_drawn_by_the_seed_of_a_result(assistant, monkeypatch):
    steps = assistant.sampler(((SIZE, SIZE),)).steps

    def normals(seeds, count):
        batch = {f"pixels:{SIZE}x{SIZE}": {"pixels": np.zeros((len(seeds), count, SIZE, SIZE, 3), np.uint8)}}
        return np.asarray(steps._posteriors(batch, jnp.asarray(seeds))[f"{SIZE}x{SIZE}"])

    one, two = normals([5], 1), normals([4, 5], 2)
    assert one.shape == (1, 1, 4, 4, 2)
    np.testing.assert_array_equal(one[0], two[1, :1])  # whatever stands beside it
    assert len({x.tobytes() for x in (two[0, 0], two[0, 1], two[1, 0], two[1, 1])}) == 4

    given = []

    def clean(params, batch, draws):
        given.append(draws)
        raise StopIteration

    monkeypatch.setattr(steps._model, "clean_latents", clean)
    monkeypatch.setattr(generation, "read", lambda *_: None)
    batch = {"vit": {"sample": jnp.zeros((1, 0), jnp.int32)}, "und": {"sample": jnp.zeros((1, 0)), "image": None}}
    for guidance in (None, Guidance(), Guidance(references="drawn")):
        with pytest.raises(StopIteration):
            steps.read({"mllm": None}, batch, jnp.zeros(1, jnp.int32), guidance)
    assert given == [None, None, {"vae": {}}]
    with pytest.raises(ConfigError, match="references 'median' does not exist"):
        Guidance(references="median")


def test_pictures_are_encoded_once_for_all_branches(assistant, monkeypatch):
    settings = dataclasses.replace(assistant.defaults["edit"], condition="both")
    plan, sampler, _ = assistant.request([PHOTO, "a red circle"], "edit", None, settings)
    steps, model = sampler.steps, sampler.model
    params = tiny_omnigen2.random_params(model)
    seeds = jnp.asarray([3, 4])
    _, packed, _ = next(sampler.rows([plan] * 2, [3, 4], settings.guidance, 2))
    packed = jax.tree.map(jnp.asarray, packed)
    assert len(packed["und"]["sample"]) == 6  # three branches
    rows = {}

    def noted(name, method, of):
        def noting(*arguments):
            rows[name] = of(arguments)
            return method(*arguments)

        return noting

    monkeypatch.setattr(model, "encode_moments", noted("vae", model.encode_moments, lambda a: len(a[1])))
    monkeypatch.setattr(model.mllm, "see", noted("vit", model.mllm.see, lambda a: len(a[1]["sample"])))
    found = jax.jit(steps.read)(params, packed, seeds)
    assert rows == {"vae": 2, "vit": 2}

    # As if every branch had been read alone.
    read = jax.jit(steps.read)
    for i in range(0, 6, 2):
        part = jax.tree.map(lambda x, i=i: x[i : i + 2], packed)
        alone = read(params, part, seeds)
        np.testing.assert_allclose(found.text[i : i + 2], alone.text, atol=1e-5)
        seen = part["ref"]["sample"] > 0
        assert seen.any() == (i < 4)
        np.testing.assert_allclose(found.references[i : i + 2][seen], alone.references[seen], atol=1e-5)


def test_a_size_that_is_asked_for_is_painted_near_it_and_resized_back(assistant):
    assert assistant._output_shape(["x"], (50, 30)) == (48, 24)  # floored to latent tokens of 8 pixels
    picture = np.repeat(np.arange(48, dtype=np.uint8)[:, None, None], 24, 1).repeat(3, 2)
    shown = assistant.at_size(picture, (50, 30))
    assert shown.shape == (50, 30, 3)
    # Half-pixel centres: row i lies at (i + 0.5) * 48 / 50 - 0.5 of the painted ones.
    expected = np.clip((np.arange(50) + 0.5) * 48 / 50 - 0.5, 0, 47)
    assert np.abs(shown[:, 0, 0] - expected).max() <= 0.51
    assert assistant.at_size(picture, None) is picture
    # Larger than a million pixels: painted at a million.
    height, width = assistant._output_shape(["x"], (2000, 1000))
    assert height * width <= 1024**2 < (height + 8) * (width + 8) and abs(height / width - 2) < 0.05
    with pytest.raises(DataError, match="not 9000x9000"):
        assistant._output_shape(["x"], (9000, 9000))


def test_the_size_is_that_of_one_picture_and_the_default_after_several(assistant):
    wide = np.zeros((30, 50, 3), np.uint8)
    assert assistant._output_shape([wide, "x"], None) == (24, 48)
    assert assistant._output_shape([wide, wide, "x"], None) == (512, 512)


def test_other_families_answer_with_texts_and_paint_what_they_can():
    bagel = by_name("bagel")
    assert bagel.drawing(None, {}, True) is None and not bagel.paints_any_size
    assert FAMILY.drawing(tiny_omnigen2.config(), {}, True) is None  # no vocabulary for it
