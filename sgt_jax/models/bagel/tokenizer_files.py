"""The older files of a byte-level tokenizer, which programs around BAGEL open instead of tokenizer.json."""

import json
from pathlib import Path

OLDER = ("vocab.json", "merges.txt", "tokenizer_config.json")
# What evaluation toolkits open in a folder of BAGEL, beside the weights.
NEEDED = ("llm_config.json", "vit_config.json", "tokenizer.json", *OLDER)
_ROLES = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}  # Qwen2.5's


def write_older(folder: Path) -> list[str]:
    """Writes those of the older files that a folder lacks, from its tokenizer.json, and returns their names.

    Nothing is written beside a tokenizer of another kind, such as one of whole words.
    """
    source = folder / "tokenizer.json"
    missing = [name for name in OLDER if not (folder / name).exists()]
    if not missing or not source.exists():
        return []
    try:
        found = json.loads(source.read_text(encoding="utf-8"))
        model, added = found["model"], found.get("added_tokens", [])
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # no tokenizer that we know; it is handed on as it is
    if model.get("type") != "BPE":
        return []
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    names = {token["content"] for token in added}
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "added_tokens_decoder": {str(token["id"]): {flag: token[flag] for flag in flags} for token in added},
        "additional_special_tokens": [token["content"] for token in added if token["special"]],
        **{role: token for role, token in _ROLES.items() if token in names},
    }
    contents = {
        "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
        "tokenizer_config.json": json.dumps(config, indent=2, ensure_ascii=False) + "\n",
    }
    for name in missing:
        (folder / name).write_text(contents[name], encoding="utf-8")
    return missing
