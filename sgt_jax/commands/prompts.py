"""Whether a model can read a prompt: words that its vocabulary lacks, and texts that are longer than it reads."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from sgt_jax.assets import resource
from sgt_jax.checkpoints.folders import folder_of
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import ConfigError, DataError, nearest

MOST_NAMED = 5  # unknown words that a warning names


def tokenizer_of(checkpoint: str, base: str | None = None) -> Tokenizer | None:
    """The tokenizer of a checkpoint, read without the checkpoint and without JAX; None where that says nothing of it."""
    for folder in filter(None, (folder_of(checkpoint), base)):
        places = [os.path.join(folder, "tokenizer.json")]
        try:
            settings = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
            places.append(resource(settings["data"]["tokenizer"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no run's work directory
        for place in places:
            if os.path.exists(place):
                try:
                    return Tokenizer.from_file(place)
                except DataError:  # the loader says what is wrong with it
                    return None
    return None


def positions_of(checkpoint: str) -> int:
    """How many tokens the language model of a published folder reads; 0 where the folder does not say."""
    try:
        return int(json.loads(Path(folder_of(checkpoint), "llm_config.json").read_text())["max_position_embeddings"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def check_texts(tokenizer: Tokenizer, texts: Sequence[str], positions: int = 0) -> list[str]:
    """Warnings of texts that hold words which the vocabulary lacks; the model reads a token for unknown words there.

    Args:
      positions: tokens that the model reads at most; 0 checks no length.

    Raises:
      ConfigError: a text that is empty, too long, or has no known word.
    """
    warnings = []
    for text in texts:
        shown = text if len(text) <= 60 else text[:57] + "..."
        if not text.strip():
            raise ConfigError("a text is empty")
        ids, unknown = tokenizer.encode(text), tokenizer.unknown_words(text)
        if positions and len(ids) > positions:
            raise ConfigError(f"'{shown}' has {len(ids)} tokens, and the model reads {positions} at most; shorten it")
        if not unknown:
            continue
        known = tokenizer.words()
        if len(unknown) == len(ids):
            near = next(filter(None, (nearest(word, known) for word in unknown)), "")
            some = f"it knows {', '.join(known[:: max(len(known) // 8, 1)])}, ..." if known else ""
            raise ConfigError(f"the model knows no word of '{shown}'; {near or some}")
        words = list(dict.fromkeys(unknown))
        named = []
        for word in words[:MOST_NAMED]:
            near = nearest(word, known)
            named.append(f"'{word}'" + (f" ({near})" if near else ""))
        more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
        warnings.append(f"the model does not know {', '.join(named)}{more}; in '{shown}' it reads unknown words there")
    return warnings
