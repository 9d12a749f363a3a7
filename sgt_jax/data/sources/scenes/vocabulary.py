"""The words of the procedural scenes, and the nano tokenizer made of them.

`python -m sgt_jax.data.sources.scenes.vocabulary [FILE]` writes it: whole words, one id each. The file ships as
`sgt_jax/assets/nano/tokenizer.json`; trained nano weights depend on its ids, so the words of the shipped file keep theirs,
and new ones take the spare ids after them.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from sgt_jax.data.sources.scenes.drawing import COLOURS, PATTERNS, SHAPES
from sgt_jax.data.sources.scenes.phrases import NUMBERS, plural
from sgt_jax.data.text.templates import PLAIN
from sgt_jax.data.text.tokenizer import NANO_FILE, SPECIAL_TOKENS
from sgt_jax.errors import DataError


def words() -> list[str]:
    """Every word that captions, questions and answers can hold, in a fixed order."""
    function = "? a an the is are there what how many which where or and than of in yes no".split()
    nouns = "object objects shape colour pattern picture".split()
    relations = "left right above below front behind more fewer".split()
    sizes = "small large larger smaller largest smallest".split()
    places = "leftmost rightmost highest lowest topleft topright bottomleft bottomright".split()
    shapes = [form for shape in SHAPES for form in (shape, plural(shape))]
    return [*function, *nouns, *relations, *sizes, *places, *NUMBERS, *COLOURS, *PATTERNS, *shapes]


NANO_SIZE = 128
UNKNOWN = "<unk>"


def nano_words() -> list[str]:
    """The nano vocabulary without special tokens, in the order of its ids: those that ship, then those that are new."""
    ids = json.loads(NANO_FILE.read_text(encoding="utf-8"))["model"]["vocab"]
    shipped = [word for word in sorted(ids, key=ids.__getitem__) if not word.startswith("<")]
    plain = [word for sentence in PLAIN.values() for word in sentence.split() if not word.startswith("{")]
    return list(dict.fromkeys([*shipped, *words(), *plain]))


def make_nano(words: Sequence[str], size: int = NANO_SIZE) -> tokenizers.Tokenizer:
    """A whole-word tokenizer: <unk>, four special tokens, the words, spare ids up to `size`. Lower-cases its input."""
    tokens = [UNKNOWN, *SPECIAL_TOKENS.values(), *words]
    if len(tokens) > size:
        raise DataError(f"{len(tokens)} tokens do not fit into a vocabulary of {size}; raise NANO_SIZE")
    tokens += [f"<spare_{i}>" for i in range(size - len(tokens))]
    inner = tokenizers.Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token=UNKNOWN))
    # People type "What color is it?": case, American spelling and a glued question mark should not matter.
    american = normalizers.Replace(Regex(r"\bcolor"), "colour")
    inner.normalizer = normalizers.Sequence([normalizers.Lowercase(), american])
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS.values()]
    inner.add_special_tokens(special)
    return inner


def main(arguments: Sequence[str]) -> None:
    path = Path(arguments[0]) if arguments else NANO_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    make_nano(nano_words()).save(str(path))
    print(f"wrote {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
