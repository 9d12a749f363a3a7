"""VLMEvalKit's reading of a reply to a multiple-choice question, with exact matching instead of a judge."""

import re
import string
from collections.abc import Mapping
from typing import Any

API_FAILURE = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_SEPARATORS = str.maketrans({mark: " " for mark in ".()[],:;!*#{}"})
_SENTENCE = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
REFUSED = "Z"

Options = Mapping[str, str]


def options_of(row: Mapping[str, Any]) -> dict[str, str]:
    """letter -> text of the options that a row of the common table has."""
    return {letter: str(row[letter]) for letter in string.ascii_uppercase if row.get(letter) not in (None, "")}


def letter(reply: str, options: Options) -> str | None:
    """The letter rule and the sentence rule.

    One letter of the options, in upper case and a word by itself, counts if its first place is among the last four words;
    so "not B" is B. Otherwise "answer is X" counts, in any case and without a word end: "the answer is cube" is C.
    Refusals are Z.
    """
    if API_FAILURE in reply:
        return None
    if any(phrase in reply for phrase in _REFUSALS):
        return REFUSED
    words = reply.translate(_SEPARATORS).split()
    present = [name for name in options if name in words]
    if len(present) == 1 and words.index(present[0]) > len(words) - 5:
        return present[0]
    if not present and REFUSED in words:
        return REFUSED
    said = _SENTENCE.search(reply)
    if said and said.group(1).upper() in options:
        return said.group(1).upper()
    return None


def text_option(reply: str, options: Options) -> str | None:
    """The one option whose text the reply contains, unless the reply is longer than twice all option texts together."""
    if len(reply) > 2 * sum(len(text) for text in options.values()):
        return None
    inside = [name for name, text in options.items() if text.lower() in reply.lower()]
    return inside[0] if len(inside) == 1 else None


def read_choice(reply: str, options: Options) -> str | None:
    """The letter that the toolkit takes the reply for, or None where it would ask its judge."""
    return letter(reply, options) or text_option(reply, options)


_PLAIN_LETTER = re.compile(r"[\s(\[{<*_`\"'$]*([A-Za-z])(?!['’]?[A-Za-z0-9])[\s.)\]}>*_`\"'$:/。，：）]*(.*)", re.DOTALL)
_PLAIN_SENTENCE = re.compile(
    r"(?:answer\s+is|answer\s*:|option|答案是?|选择?)[\s:：(（*\"'{]*([A-Za-z])(?!['’]?[A-Za-z0-9])(?!\s+or\b)", re.IGNORECASE
)
_ARTICLE = re.compile(r"(answer\s+is)\s+a\s+(?=\w)", re.IGNORECASE)  # "the answer is a cube" names no letter


def plain_choice(reply: str, options: Options) -> str | None:
    """Our own reading, for the score beside the official one: no substrings of words, no article taken for option A.

    A letter alone (in any case, quoted or in brackets), at the start before its own option's text, or after "answer is",
    "answer:", "option" or their Chinese, unless "or" follows; else the one option whose text stands in the reply as whole
    words.
    """
    text = reply.strip()
    lone = _PLAIN_LETTER.fullmatch(text)
    if lone and lone.group(1).upper() in options:
        name, rest = lone.group(1).upper(), lone.group(2).strip(" -–—:.\n")
        if not rest or rest.lower() == options[name].lower().strip():
            return name
    said = _PLAIN_SENTENCE.findall(_ARTICLE.sub(r"\1 the ", text))
    named = {name.upper() for name in said if name.upper() in options}
    if len(named) == 1:
        return named.pop()
    whole = [n for n, o in options.items() if o and re.search(rf"(?<!\w){re.escape(o.lower())}(?!\w)", text.lower())]
    return whole[0] if len(whole) == 1 and not named else None
