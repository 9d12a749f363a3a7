"""What a server compiles at its start covers every request that it accepts: sizes, lengths of prompts, guidance."""

import dataclasses

import numpy as np
import pytest

from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import ConfigError, DataError
from sgt_jax.inference import load
from sgt_jax.inference.assistant import Assistant
from sgt_jax.inference.engine import Engine, Limits, Request
from sgt_jax.models import guiding
from sgt_jax.models.family import by_name
from tests.support import tiny_omnigen2
from tests.support.serving_pictures import photo


@pytest.fixture(scope="module")
def engine():
    return Engine(load.load("package:nano"), Limits(sizes=((32, 32), (32, 16))))


@pytest.fixture(scope="module")
def omnigen2():
    family, config = by_name("omnigen2"), tiny_omnigen2.config()
    return Engine(Assistant(family, config, {}, Tokenizer.nano(), default_shape=(16, 16)), Limits(sizes=((16, 16),)))


def compiled(engine):
    """What the programs of all that is offered depend on."""
    found = set()
    for request, kind in engine.offered.usual():
        own = engine.assistant.defaults[request.mode]
        guided = dataclasses.replace(own, guidance=guiding.spread(own.guidance, kind))
        prepared = engine._canvas.prepare(dataclasses.replace(request, settings=guided))
        for budgets in engine.offered.ladder(request, request.shape, len(request.history) - 1, prepared.kind):
            found.add(program(prepared._replace(budgets=tuple(sorted(budgets.items())))))
    return found


def program(prepared):
    return prepared.group[0], prepared.group[1], prepared.kind, len(prepared.branches), prepared.budgets


def settings(engine, mode, **guidance):
    own = engine.assistant.defaults[mode]
    return dataclasses.replace(own, steps=7, guidance=dataclasses.replace(own.guidance, **guidance))


PHOTOS = [(32, 32), (64, 32), (7, 90), (300, 200), (33, 31), (1, 1), (1200, 1600)]
WORDS = [1, 30, 90, 140, 400]
GUIDED = [{}, {"text_scale": 1.0, "image_scale": 1.0}, {"text_scale": 3.0, "image_scale": 1.0, "renorm": "channel"}]


def test_no_request_that_is_accepted_needs_a_program_of_its_own(engine):
    known = compiled(engine)
    assert len(known) == 2 * 3 * 2  # sizes, modes, lengths of prompts
    for number, (height, width) in enumerate(PHOTOS):
        picture = np.zeros((height, width, 3), np.uint8)
        for mode, history in (("edit", [picture]), ("segment", [picture]), ("t2i", [])):
            for words in WORDS:
                guided = settings(engine, mode, **GUIDED[(number + words) % 3])
                asked = Request([*history, "red " * words], mode, settings=guided)
                assert program(engine._canvas.prepare(asked)) in known, (mode, height, width, words)
    both = settings(engine, "edit", text_scale=2.0, image_scale=1.5, renorm="global")
    asked = Request([photo(1), "remove it"], "edit", shape=(32, 16), settings=both)
    assert program(engine._canvas.prepare(asked)) in known


def test_edits_of_omnigen2_share_programs_whatever_their_number_of_pictures_and_negative_prompt(omnigen2):
    known = compiled(omnigen2)
    for count in range(1, 6):
        for words in (1, 100):
            guided = settings(omnigen2, "edit", negative="red " * count, solver=("euler", "dpm")[count % 2])
            asked = Request([*[photo(n, 16) for n in range(count)], "a star " * words], "edit", settings=guided)
            assert program(omnigen2._canvas.prepare(asked)) in known, (count, words)
    with pytest.raises(DataError, match="5 pictures at most"):
        omnigen2._canvas.prepare(Request([photo(1, 16)] * 6, "edit"))


@pytest.mark.parametrize("asked, words", [
    (Request(["a star"], "t2i", shape=(16, 16)), "paints pictures of 32x32, 16x32, not 16x16; serve --sizes"),
    (Request(["a star"], "t2i", shape=(640, 32)), "of 8 to 32 pixels a side"),
    (Request(["red " * 600], "t2i"), "positions"),
    (Request([photo(1), "red " * 500], "edit"), "tokens, and this server paints after 512 at most"),
    (Request([photo(1)] * 2, "edit"), "1 pictures at most"),
])  # fmt: skip
def test_what_is_not_offered_is_refused_by_a_line_that_says_what_is(engine, asked, words):
    with pytest.raises(DataError, match=words):
        engine._canvas.prepare(asked)


def test_pictures_take_the_offered_size_of_their_ratio_and_the_result_theirs(engine):
    fit = engine.offered.fit
    tall = np.zeros((90, 30, 3), np.uint8)
    assert fit(Request([tall, "a"], "edit")) == ((32, 16), (32, 16), (32, 8))
    assert fit(Request([tall, "a"], "segment")) == ((32, 16), (32, 16), None)
    assert fit(Request([photo(1), "a"], "edit")) == ((32, 32), (32, 32), None)
    assert fit(Request(["a"], "t2i")) == ((32, 32), None, None)
    seen = engine.assistant._plan([tall], settings(engine, "edit"), vae=True, size=(32, 16))
    assert [item.data.shape for item in seen] == [(32, 16, 3)] * 2
    with pytest.raises(DataError, match="guidance by picture for edits"):
        engine.offered.kind("segment", settings(engine, "segment", image_scale=2.0).guidance)


def test_sizes_are_read_as_they_are_written():
    from sgt_jax.commands import serve

    assert serve.sizes_of("64x32, 32X32") == ((32, 64), (32, 32)) and serve.sizes_of(None) == ()
    with pytest.raises(ConfigError, match="WIDTHxHEIGHT"):
        serve.sizes_of("64x")
