"""What the analyses may ask of OmniGen2: states and attention of its language model and its transformer; align is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.analysis.attention.answering import understanding_attention
from sgt_jax.analysis.attention.painting import KEYS, generation_attention
from sgt_jax.analysis.attention.words import categorised
from sgt_jax.analysis.questions import Question
from sgt_jax.analysis.separability.features import picture_features
from sgt_jax.data import packing
from sgt_jax.data.examples import Example, PlanItem, Turn
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import UserError
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models.family import by_name
from tests.support import tiny_omnigen2

FAMILY = by_name("omnigen2")
PICTURE = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def assistant():
    config = tiny_omnigen2.config()
    return Assistant(FAMILY, config, tiny_omnigen2.random_params(FAMILY.model(config)), Tokenizer.nano())


def test_a_picture_has_features_of_every_stage_and_no_other_picture_changes_them(assistant):
    draw = np.random.default_rng(0).integers
    one, other = (draw(0, 256, (16, 16, 3), np.uint8) for _ in range(2))
    both = picture_features(assistant, [one, other], (0,), rows=2)
    text = assistant.config.text
    assert {name: x.shape for name, x in both.items()} == {
        "vit": (2, assistant.config.vision.hidden_size), "connector": (2, text.hidden_size), "layer 0": (2, text.hidden_size)
    }  # fmt: skip
    swapped = picture_features(assistant, [other, one], (0,), rows=2)
    for name, x in both.items():
        np.testing.assert_allclose(x, swapped[name][::-1], rtol=1e-5, atol=1e-6)
        assert jnp.abs(x[0] - x[1]).max() > 1e-3, name


def test_what_needs_one_decoder_for_both_tasks_is_refused_in_one_line(assistant):
    with pytest.raises(UserError, match="family 'omnigen2' has no analysis 'align'") as caught:
        FAMILY.check_analysis("align")
    assert "\n" not in str(caught.value)


def test_the_captured_queries_and_keys_are_those_that_attention_used(assistant):
    """A layer of the language model by hand from them."""
    layout = assistant.layout(())
    lanes = layout.lay_out((PlanItem("vit_image", PICTURE), PlanItem("text", [10, 11, 12])))
    batch = packing.stack_samples([lanes], layout.spec, packing.lane_budgets([lanes], layout.spec, multiple=1))
    model, params = assistant.model, assistant.params

    @jax.jit
    def run(batch):
        cells = model.mllm.see(params["mllm"], batch["vit"])
        names = ("q_0", "k_0", "v_0", "hidden_0", "embeds")
        return model.mllm.hidden(params["mllm"], model.pointing(batch["und"]), cells, names)[1]

    found, layer = run(batch), jax.tree.map(lambda x: np.asarray(x[0], np.float64), params["mllm"]["text"]["layers"])
    q, k, v, hidden, x = (np.asarray(found[name][0], np.float64) for name in ("q_0", "k_0", "v_0", "hidden_0", "embeds"))
    scores = np.einsum("qhd,kod->hqk", q, k) / np.sqrt(q.shape[-1])  # one key-value head for both
    scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    x = x + np.einsum("hqk,kod->qhd", weights, v).reshape(len(x), -1) @ layer["o_proj"]["kernel"]
    normed = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * layer["post_attention_layernorm"]["scale"]
    gate, up, down = (layer["mlp"][f"{name}_proj"]["kernel"] for name in ("gate", "up", "down"))
    gated = normed @ gate
    np.testing.assert_allclose(x + (gated / (1 + np.exp(-gated)) * (normed @ up)) @ down, hidden, rtol=1e-4, atol=1e-4)


@pytest.mark.slow  # 22 s
def test_attention_on_a_picture_and_on_words_covers_everything(assistant):
    turns = (Turn("user", "what colour is the circle ?"), Turn("assistant", "red"))
    asked = np.zeros((16, 16), bool)
    asked[:8, :8] = True
    example = Example("one", PICTURE, turns=turns)
    found = understanding_attention(assistant, [Question(example, asked)], (0,), rows=1, ranked=1)
    assert found.mass.shape == (1, 1, 2, 2, 4) and found.tokens.tolist() == [4] and found.object_area.tolist() == [0.25]
    np.testing.assert_allclose(found.mass[..., :3].sum(-1), 1, atol=1e-5)
    assert (found.mass > 0).all() and (found.mass[..., 3] < found.mass[..., 0]).all()
    prompt = categorised("a red circle left of a square", ["circle", "square"], Tokenizer.nano())
    painted = generation_attention(assistant, [prompt], (0,), steps=2, rows=1, ranked=1)
    assert painted.times[0] == 0 and painted.mass.shape[:3] == (1, 2, 1) and painted.tokens.sum() == len(prompt.ids)
    np.testing.assert_allclose(painted.mass.sum(-1), 1, atol=1e-5)
    assert (painted.mass[..., KEYS.index("picture markers")] == 0).all() and (painted.mass[..., :4].sum(-1) > 0).all()
