"""Wordings: enough, distinct, clean, drawn uniformly, and none gives an answer away."""

from collections import Counter

import numpy as np
import pytest

from sgt_jax.data.sources.scenes.drawing import COLOURS, SHAPES
from sgt_jax.data.text import templates
from sgt_jax.errors import DataError


@pytest.mark.parametrize("proxy", list(templates.GENERAL))
def test_general_wordings(proxy):
    wordings = templates.wordings(proxy)
    assert len(set(wordings)) == len(wordings) >= 60
    for text in wordings:
        assert text[0].isupper() and text.endswith(".") and "  " not in text and not set("[]|") & set(text)
        assert not set(text.lower().rstrip(".").split()) & ({*COLOURS, *SHAPES} - {"black"})
    # Alternatives must not be prefixes of one another by accident: every sentence is a sentence.
    assert all(5 <= len(text.split()) or proxy != "segmentation" for text in wordings)


def test_every_proxy_with_general_wordings_has_a_plain_one():
    assert set(templates.GENERAL) <= set(templates.PLAIN)
    assert templates.wordings("segmentation", "plain") == ("paint each object",)
    assert len(set(templates.PLAIN.values())) == len(templates.PLAIN)


def test_draws_cover_the_wordings():
    rng = np.random.default_rng(0)
    drawn = Counter(templates.instruction("edges", rng) for _ in range(4000))
    assert set(drawn) == set(templates.wordings("edges"))
    assert templates.instruction("edges", rng, "plain") == "draw the edges"


def test_unknown_proxies_and_styles():
    with pytest.raises(DataError, match="'juggling' has no general wordings; add them to"):
        templates.wordings("juggling")
    with pytest.raises(DataError, match="choose 'general' or 'plain'"):
        templates.wordings("edges", "rude")
