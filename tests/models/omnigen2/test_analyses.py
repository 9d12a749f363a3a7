"""What the analyses may ask of OmniGen2: the states of its language model while it reads; the others are refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.analysis.attention.answering import understanding_attention
from sgt_jax.analysis.separability.features import picture_features
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import UserError
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models.family import by_name
from tests.support import tiny_omnigen2

FAMILY = by_name("omnigen2")


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
    with pytest.raises(UserError, match="family 'omnigen2' has no analysis 'attention'") as caught:
        understanding_attention(assistant, [], (0,))
    assert "\n" not in str(caught.value)
