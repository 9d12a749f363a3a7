"""What an understanding benchmark is: where its items come from, how they are asked, how replies become scores."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.evaluation.benchmarks.items import Item
from sgt_jax.evaluation.rules.official import bagel, choices, tables, yes_no

STYLES = ("toolkit", "bagel")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Scores of one set of replies.

    Attributes:
      scores: name -> value, on the scale of the official tool.
      read: what the official rule read each reply as.
      hits: name of a rule -> value per item, 0 to 1 (not-a-number where the rule has none).
      main: the entry of `hits` behind the intervals.
      judged: indices whose replies the official tool would give to a judge.
    """

    scores: dict[str, float]
    read: list[Any]
    hits: dict[str, list[float]]
    main: str
    judged: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a benchmark comes from.

    Attributes:
      hub: id on the usual hub, or "".
      licence: as its card says.
      tree: the files that are read, one layout each.
    """

    hub: str
    licence: str
    tree: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Understanding:
    """An understanding benchmark.

    Attributes:
      name: in the registry and on disk.
      title: for people.
      size: items that the whole benchmark has; 0: not known to us.
      max_new_tokens: of a reply, as in the reference.
      place: where it comes from.
      read: folder -> items. Raises DataError.
      prompt: (item, style) -> the text after the pictures.
      score: (items, replies) -> scores; only of items that were answered.
      paper: (name of a score, factor, what it is in words): the variant in the paper's tables.
      cluster: item -> its group, where items are not independent.
    """

    name: str
    title: str
    size: int
    max_new_tokens: int
    place: Place
    read: Callable[[Path], list[Item]]
    prompt: Callable[[Item, str], str]
    score: Callable[[Sequence[Item], Sequence[str], str], Outcome]
    paper: tuple[str, float, str]
    cluster: Callable[[Item], str] | None = None


# -- Prompts ---------------------------------------------------------------------------------------------------------------


def choice_prompt(item: Item, style: str) -> str:
    """A multiple-choice question in the toolkit's or BAGEL's words."""
    options = choices.options_of(item.row)
    if style == "bagel":
        head = [item.row["hint"]] if item.row.get("hint") else []
        lines = [*head, item.row["question"], *(f"{k}. {v}" for k, v in options.items())]
        return "\n".join([*lines, bagel.LETTER_ANSWER])
    text = f"Hint: {item.row['hint']}\n" if item.row.get("hint") else ""
    text += f"Question: {item.row['question']}\n"
    if options:
        text += "Options:\n" + "".join(f"{k}. {v}\n" for k, v in options.items())
        text += "Please select the correct answer from the options above. \n"
    return text


def short_prompt(item: Item, style: str) -> str:
    """A yes/no question as it is, or with BAGEL's wish for one word."""
    question = item.row["question"]
    if style == "bagel" and bagel.SHORT_ANSWER not in question:
        return f"{question}\n{bagel.SHORT_ANSWER}"
    return question


# -- Scores of the toolkit -------------------------------------------------------------------------------------------------


def as_toolkit(items: Sequence[Item], replies: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows and replies after a round trip through the toolkit's tables; the index stays as it was."""
    rows = tables.read_back([{k: v for k, v in item.row.items() if k != "index"} for item in items])
    return [{**row, "index": item.index} for row, item in zip(rows, items)], tables.read_back_replies(replies)


def choice_outcome(
    items: Sequence[Item], replies: Sequence[str], table: Callable[[list, list], Mapping[str, Any]]
) -> Outcome:
    """Letters by the toolkit's rules with exact matching, its table, and accuracy by our own reading beside it."""
    rows, texts = as_toolkit(items, replies)
    options = [choices.options_of(row) for row in rows]
    read = [choices.read_choice(text, one) for text, one in zip(texts, options)]
    hits = [float(letter == row["answer"]) for letter, row in zip(read, rows)]
    plain = [float(choices.plain_choice(text, one) == row["answer"]) for text, one, row in zip(replies, options, rows)]
    judged = [item.index for item, letter in zip(items, read) if letter is None]
    scores = flat(table(rows, hits))
    if judged:
        scores = {f"{name} (lower bound)": value for name, value in scores.items()}
    scores["accuracy by our own reading"] = tables.mean(plain)
    return Outcome(scores, read, {"toolkit": hits, "own reading": plain}, "toolkit", judged)


def yes_no_outcome(
    items: Sequence[Item], replies: Sequence[str], table: Callable[[list, list, list], Mapping[str, Any]]
) -> Outcome:
    """Yes and no by the toolkit's rule, its table of (rows, read, hits), and accuracy by our own reading beside it."""
    rows, texts = as_toolkit(items, replies)
    read = [yes_no.read_yes_no(text) for text in texts]
    hits = [float(found == row["answer"]) for found, row in zip(read, rows)]
    plain = [float(yes_no.plain_yes_no(text) == row["answer"]) for text, row in zip(replies, rows)]
    judged = [item.index for item, found in zip(items, read) if found == yes_no.UNKNOWN]
    scores = flat(table(rows, read, hits))
    if judged:
        scores = {f"{name} (lower bound)": value for name, value in scores.items()}
    scores["accuracy by our own reading"] = tables.mean(plain)
    return Outcome(scores, read, {"toolkit": hits, "own reading": plain}, "toolkit", judged)


def flat(found: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """Nested mappings as one, names joined by " / "; a lone "none" split is left out."""
    out: dict[str, float] = {}
    for key, value in found.items():
        name = before if key == "none" else f"{before} / {key}" if before else str(key)
        out |= flat(value, name) if isinstance(value, Mapping) else {name: float(value)}
    return out


def yes_or_no(text: str) -> str:
    """ "yes", "1", "True" -> "Yes", "no", "0", "False" -> "No"; anything else stays."""
    return {"yes": "Yes", "1": "Yes", "true": "Yes", "no": "No", "0": "No", "false": "No"}.get(
        text.strip().lower(), text
    )


def normal_answer(item: Item) -> Item:
    """The item with its answer as Yes or No."""
    return dataclasses.replace(item, row={**item.row, "answer": yes_or_no(item.row.get("answer", ""))})
