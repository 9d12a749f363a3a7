"""DPG-Bench: scores from the answers to the questions about each tile of a picture."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sgt_jax.errors import DataError
from sgt_jax.evaluation.rules.official.tables import mean


class Question(NamedTuple):
    """One question of an item: its number, the numbers of its parents, its category and its words."""

    number: int
    parents: tuple[int, ...]
    category: str
    text: str


Answer = Callable[[str, int, str], str]  # (item_id, tile, question) -> the answer


def questions(rows: Sequence[Mapping[str, str]], *, skip_first: bool = True) -> dict[str, list[Question]]:
    """item_id -> its questions in the order of the table.

    Args:
      rows: of dpg_bench.csv.
      skip_first: the official script never uses the first row. An item whose rows do not stand together keeps the last
        run of them, as there.
    """
    found: dict[str, dict[int, Question]] = {}
    previous = None
    for row in rows[1:] if skip_first else rows:
        item = row["item_id"]
        if item != previous:
            found[item] = {}
        previous = item
        try:
            number = int(row["proposition_id"])
            parents = tuple(int(part) for part in row["dependency"].split(","))
        except ValueError:
            raise DataError(f"dpg_bench.csv, {item}: proposition_id and dependency must be whole numbers") from None
        category = row["tuple"].split("(")[0].strip()
        found[item][number] = Question(number, parents, category, row["question_natural_language"])
    return {item: list(mine.values()) for item, mine in found.items()}


def every_question(rows: Sequence[Mapping[str, str]]) -> dict[str, list[tuple[Question, bool]]]:
    """item_id -> all its questions, and whether the official script uses each: those that it does not use come first.

    Left out there are the first row of the table, and all but the last run of an item whose rows do not stand together.
    """
    runs: list[list[Mapping[str, str]]] = []
    for row in rows:
        if not runs or runs[-1][0]["item_id"] != row["item_id"]:
            runs.append([])
        runs[-1].append(row)
    known: dict[str, dict[int, Question]] = {}
    for run in runs:
        mine = known.setdefault(run[0]["item_id"], {})
        mine.update((question.number, question) for question in questions(run, skip_first=False)[run[0]["item_id"]])
    official = questions(rows)
    found = {}
    for item, mine in known.items():
        used = official.get(item, [])
        numbers = {question.number for question in used}
        found[item] = [(q, False) for q in mine.values() if q.number not in numbers] + [(q, True) for q in used]
    return found


def item_scores(
    asked: Sequence[Question], item: str, tiles: int, answer: Answer
) -> tuple[list[float], dict[int, float]]:
    """The score of every tile, and the answers before zeroing of the last tile (which is all that categories see).

    A question is zeroed if a parent is zero at that moment; questions are visited in the order of the table, so a parent
    that stands later is seen before it is itself zeroed.
    """
    scores, plain = [], {}
    for tile in range(tiles):
        values = {q.number: float(answer(item, tile, q.text) == "yes") for q in asked}
        plain = dict(values)
        for question in asked:
            if any(parent and values[parent] == 0 for parent in question.parents):
                values[question.number] = 0.0
        scores.append(sum(values.values()) / len(values))
    return scores, plain


def results(
    table: Mapping[str, Sequence[Question]], items: Sequence[str], tiles: int, answer: Answer
) -> dict[str, Any]:
    """dpg_score, L1 and L2 category means (all times 100), and per item the samples and their mean.

    Args:
      items: those with a picture. One without questions fails alone, as in the official script.
      tiles: 1, or 4 for a 2 x 2 grid.
    """
    each: dict[str, Any] = {}
    fine: dict[str, list[float]] = defaultdict(list)
    broad: dict[str, list[float]] = defaultdict(list)
    for item in items:
        try:
            scores, plain = item_scores(table[item], item, tiles, answer)
        except KeyError:  # no questions, or a parent that is no question of the item
            continue
        each[item] = {"samples": scores, "mean": sum(scores) / len(scores)}
        for question in table[item]:
            fine[question.category].append(plain[question.number])
            broad[question.category.split("-")[0].strip()].append(plain[question.number])
    return {
        "dpg_score": mean(entry["mean"] for entry in each.values()) * 100,
        "L1": {name: mean(values) * 100 for name, values in broad.items()},
        "L2": {name: mean(values) * 100 for name, values in fine.items()},
        "items": each,
    }


def own_results(
    table: Mapping[str, Sequence[Question]], items: Sequence[str], tiles: int, answer: Answer
) -> dict[str, Any]:
    """Our own count, times 100: score, and L1 over all tiles.

    A question counts 0 if any of its ancestors was answered with anything but yes, wherever it stands in the table. A
    parent that is no question of the item is passed over.

    Args:
      table: with the questions that the official script leaves out.
    """
    each: list[float] = []
    broad: dict[str, list[float]] = defaultdict(list)
    for item in items:
        asked = {question.number: question for question in table[item]}
        for tile in range(tiles):
            values = {number: answer(item, tile, q.text) == "yes" for number, q in asked.items()}
            for number, question in asked.items():
                broad[question.category.split("-")[0].strip()].append(float(values[number]))
            true = [all(values[n] for n in _with_ancestors(asked, number)) for number in asked]
            each.append(mean(map(float, true)))
    return {"score": mean(each) * 100, "L1": {name: mean(values) * 100 for name, values in broad.items()}}


def _with_ancestors(asked: Mapping[int, Question], number: int) -> set[int]:
    """The question, its parents, theirs, and so on; a circle ends where it began."""
    found, waiting = set(), [number]
    while waiting:
        one = waiting.pop()
        if one in asked and one not in found:
            found.add(one)
            waiting.extend(asked[one].parents)
    return found
