"""Converts text to ids and back: wraps a `tokenizer.json` and checks BAGEL's special tokens."""

import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers

from sgt_jax.errors import DataError

SPECIAL_TOKENS = {
    "bos": "<|im_start|>",
    "eos": "<|im_end|>",
    "soi": "<|vision_start|>",
    "eoi": "<|vision_end|>",
}
SMALL = 1000  # ids: a vocabulary below that is whole words of the scenes'
NANO_FILE = Path(__file__).parents[2] / "assets" / "nano" / "tokenizer.json"


class Tokenizer:
    """A tokenizer with the four special tokens resolved: `bos`, `eos`, `soi`, `eoi` (ids).

    Attributes:
      size: number of ids, special and added tokens included.
    """

    def __init__(self, inner: tokenizers.Tokenizer, name: str = "tokenizer"):
        ids = {role: inner.token_to_id(token) for role, token in SPECIAL_TOKENS.items()}
        if missing := [SPECIAL_TOKENS[role] for role, number in ids.items() if number is None]:
            raise DataError(
                f"{name}: lacks the special tokens {' '.join(missing)}; take the tokenizer.json of a BAGEL or Qwen2.5"
                " checkpoint, or add them to its added_tokens"
            )
        self._inner = inner
        self.bos, self.eos, self.soi, self.eoi = (ids[role] for role in ("bos", "eos", "soi", "eoi"))
        self.size = inner.get_vocab_size(with_added_tokens=True)

    @property
    def style(self) -> str:
        """Wordings that suit the vocabulary: a tiny one is that of the nano models, which knows few words."""
        return "plain" if self.size < SMALL else "general"

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Reads a `tokenizer.json`, or the one inside a checkpoint folder.

        Raises:
          DataError: no such file, not a tokenizer, or special tokens are missing.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "tokenizer.json"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error}); it must be a tokenizer.json") from error
        try:
            is_tokenizer = "model" in json.loads(text)
        except (json.JSONDecodeError, TypeError):
            is_tokenizer = False
        if not is_tokenizer:
            raise DataError(f"{path}: not a tokenizer.json as written by the tokenizers library")
        inner = tokenizers.Tokenizer.from_str(text)
        return cls(inner, str(path))

    @classmethod
    def nano(cls) -> "Tokenizer":
        """The shipped tokenizer of the procedural scenes."""
        return cls.from_file(NANO_FILE)

    def encode(self, text: str) -> list[int]:
        """Ids of the text; nothing is added, but special tokens written out in the text become their ids."""
        return self._inner.encode(text, add_special_tokens=False).ids

    def encode_with_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of the text, and of each the letters [start, end) that it stands for (a leading blank may be one)."""
        found = self._inner.encode(text, add_special_tokens=False)
        return found.ids, found.offsets

    def unknown_words(self, text: str) -> list[str]:
        """The pieces of the text that the vocabulary lacks; a byte-level vocabulary lacks none."""
        unknown = getattr(self._inner.model, "unk_token", None)
        number = self._inner.token_to_id(unknown) if unknown else None
        if number is None:
            return []
        found = self._inner.encode(text, add_special_tokens=False)
        return [text[a:b] for i, (a, b) in zip(found.ids, found.offsets) if i == number]

    def words(self) -> list[str]:
        """The whole words of a small vocabulary, without special tokens and punctuation; none of a large one."""
        if self.size >= SMALL:
            return []
        return sorted(word for word in self._inner.get_vocab() if word.isalpha())

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        return self._inner.decode([int(i) for i in ids], skip_special_tokens=skip_special)

    def __len__(self) -> int:
        return self.size
