"""The nano tokenizer knows every word of the scenes, ships as generated, and special tokens are checked by name."""

import pickle
import zlib

import numpy as np
import pytest
import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers

from sgt_jax.data.sources.scenes import drawing
from sgt_jax.data.sources.scenes.captions import caption
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.data.sources.scenes.vocabulary import NANO_SIZE, main, make_nano, nano_words
from sgt_jax.data.text import templates
from sgt_jax.data.text.tokenizer import NANO_FILE, SPECIAL_TOKENS, Tokenizer
from sgt_jax.errors import DataError


@pytest.fixture(scope="module")
def nano():
    return Tokenizer.nano()


def test_shipped_file_is_what_the_command_writes(tmp_path):
    main([str(tmp_path / "deep" / "tokenizer.json")])
    assert (tmp_path / "deep" / "tokenizer.json").read_bytes() == NANO_FILE.read_bytes()


def test_ids_that_trained_weights_rely_on(nano):
    """Append new words at the end of the lists: moving one would silently break the shipped nano weights."""
    assert (nano.bos, nano.eos, nano.soi, nano.eoi) == (1, 2, 3, 4)
    assert nano.size == len(nano) == NANO_SIZE == 128
    assert nano.encode("? red circle paint yes") == [5, 61, 73, 89, 22]
    trained = nano_words()[: 103 - 5]  # what the first weights were trained on; later words follow
    assert (trained[0], trained[-1]) == ("?", "sharpen") and nano.encode("sharpen normals") == [102, 103]
    assert zlib.crc32(" ".join(trained).encode()) == 1624915696


def test_everything_about_2000_scenes_is_known(nano):
    every = dict(
        size=32,
        shapes=tuple(drawing.SHAPES),
        colours=tuple(drawing.COLOURS),
        max_objects=3,
        pattern_rate=0.5,
    )
    texts = set()
    for scenes in (Scenes(turns=8), Scenes(turns=8, **every)):
        for i in range(1000):
            e = scenes[i]
            texts |= {t.text.removeprefix("<image>\n") for t in e.turns} | {e.caption}
            texts.add(caption(e.extra["scene"], np.random.default_rng(i)))
    texts |= {w.format(object="the red circle") for p in templates.PLAIN for w in templates.wordings(p, "plain")}
    for text in texts:
        ids = nano.encode(text)
        assert 0 not in ids, f"<unk> in {text!r}"
        assert nano.decode(ids) == text
    assert all(len(nano.encode(word)) == 1 for word in nano_words())


def test_what_people_type(nano):
    assert nano.encode("What COLOR is the circle?") == nano.encode("what colour is the circle ?")
    assert nano.decode(nano.encode("a purple flamingo"), skip_special=False) == "a purple <unk>"


def test_no_automatic_special_tokens_but_written_ones_count(nano):
    assert nano.encode("red") == [61]
    assert nano.encode("red<|im_end|>") == [61, nano.eos]
    assert nano.decode([nano.bos, 61, nano.eos]) == "red"
    assert nano.decode([nano.bos, 61], skip_special=False) == "<|im_start|> red"


def test_tokenizer_travels(nano):
    assert pickle.loads(pickle.dumps(nano)).encode("red") == [61]


def other(special):
    """A tokenizer of another make: characters, with a post-processor that adds tokens."""
    inner = tokenizers.Tokenizer(models.WordLevel({c: i for i, c in enumerate("abcdefgh")}, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.add_special_tokens([AddedToken(t, special=True) for t in special])
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", inner.token_to_id("<|im_start|>"))]
    )
    return inner


def test_files_of_checkpoints(tmp_path):
    other(SPECIAL_TOKENS.values()).save(str(tmp_path / "tokenizer.json"))
    tok = Tokenizer.from_file(tmp_path)  # the folder will do
    assert tok.encode("bad") == [1, 0, 3] and tok.bos == 8 and tok.size == 12


def test_missing_special_tokens_are_named(tmp_path):
    other(["<|im_start|>", "<|vision_end|>"]).save(str(tmp_path / "t.json"))
    with pytest.raises(DataError, match=r"t.json: lacks the special tokens <\|im_end\|> <\|vision_start\|>; take"):
        Tokenizer.from_file(tmp_path / "t.json")


def test_files_that_are_no_tokenizers(tmp_path):
    with pytest.raises(DataError, match="gone.json: cannot be read"):
        Tokenizer.from_file(tmp_path / "gone.json")
    for text in ("{", "[]", "3", '{"vocab": {}}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(DataError, match="x.json: not a tokenizer.json"):
            Tokenizer.from_file(tmp_path / "x.json")


def test_vocabulary_overflow_says_what_to_raise():
    with pytest.raises(DataError, match="raise NANO_SIZE"):
        make_nano([f"w{i}" for i in range(200)])
