"""Which words of a prompt name objects, colours or places: the categories that attention is counted by."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.data.sources.scenes.drawing import COLOURS
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError

CATEGORIES = ("object", "colour", "position", "other")
# GenEval's colours and relations, and those of the scenes.
_COLOURS = {*COLOURS, "brown", "pink", "gray", "grey"}
_RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind")


class Prompt(NamedTuple):
    """A prompt, and per token of it the number of its category in CATEGORIES."""

    text: str
    ids: list[int]
    categories: list[int]


def categorised(text: str, objects: Sequence[str], tokenizer: Tokenizer) -> Prompt:
    """Splits a prompt into tokens and categories.

    Args:
      text: the prompt.
      objects: names of the objects in it, such as "dining table"; plurals are found as well.
      tokenizer: a token belongs to the category of the first letter that it covers, white space aside.
    """
    of_letter = [CATEGORIES.index("other")] * len(text)

    def mark(pattern: str, category: str) -> None:
        for match in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE):
            of_letter[slice(*match.span())] = [CATEGORIES.index(category)] * (match.end() - match.start())

    mark("|".join(_COLOURS), "colour")
    mark("|".join(_RELATIONS), "position")
    for name in objects:  # last: the "orange" of an object called so is no colour
        mark(rf"{re.escape(name)}(?:s|es)?", "object")
    categories = []
    ids, spans = tokenizer.encode_with_spans(text)
    for start, end in spans:
        while start < end - 1 and text[start].isspace():
            start += 1
        categories.append(of_letter[start] if start < len(text) else CATEGORIES.index("other"))
    return Prompt(text, ids, categories)


def place(tokens: np.ndarray, ids: Sequence[int], start: int = 0) -> int:
    """The first slot of `tokens` [S], from `start` on, at which a text stands.

    Raises:
      DataError: it does not stand there.
    """
    wanted = np.asarray(ids)
    for i in range(start, len(tokens) - len(wanted) + 1):
        if np.array_equal(tokens[i : i + len(wanted)], wanted):
            return i
    raise DataError("a text of a sample does not stand among its tokens")


def read_prompts(path: str | Path) -> list[Mapping[str, Any]]:
    """GenEval's metadata, one JSON object a line: "prompt", and "include" with the "class" of each object.

    Raises:
      DataError: the file or a line cannot be read; the message names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error}); give a JSON-lines file such as GenEval's metadata"
        ) from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            names = [part["class"] for part in entry["include"]]
            found.append({"prompt": str(entry["prompt"]), "objects": names})
        except (ValueError, KeyError, TypeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise DataError(f'{path}:{number}: needs "prompt" and "include": [{{"class": ...}}] ({what})') from None
    if not found:
        raise DataError(f"{path}: holds no prompts")
    return found
