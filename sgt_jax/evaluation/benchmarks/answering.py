"""Asks a model all questions of an understanding benchmark, in batches, and keeps every answer as soon as it is known."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.data.examples import Example, Turn
from sgt_jax.data.tasks import IMAGE_MARKER
from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks.benchmark import Understanding
from sgt_jax.evaluation.benchmarks.buckets import Batch, cut
from sgt_jax.evaluation.benchmarks.items import Item
from sgt_jax.evaluation.benchmarks.records import Kept, Records
from sgt_jax.evaluation.subject import Params, Plan, Subject

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Question:
    """An item as a model meets it: its prompt, and why it cannot be asked (or "")."""

    item: Item
    text: str
    bad: str = ""


def questions(benchmark: Understanding, items: Sequence[Item], style: str) -> list[Question]:
    """All items with their prompts; an item without a picture, or with one whose header cannot be read, is bad."""
    out = []
    for item in items:
        bad, text = item.bad, ""
        try:
            if not bad:
                text = benchmark.prompt(item, style)
                if not item.pictures:
                    raise DataError("has no picture")
                for picture in item.pictures:
                    picture.size()
        except (DataError, KeyError) as error:
            bad = str(error)
        out.append(Question(item, text, bad))
    return out


class Asked:
    """Questions in front of one subject: their plans, and the batches that they are cut into.

    Attributes:
      batches: of all questions, whatever is known already, so that a resume gives identical files.
    """

    def __init__(self, subject: Subject, questions: Sequence[Question], batch: int) -> None:
        self._subject, self.questions = subject, list(questions)
        self._task = subject.task({"task": "understanding"})
        self._pictures: dict[tuple[tuple[int, int], ...], tuple[Any, ...]] = {}
        self._known: dict[tuple[Any, int], Mapping[str, int]] = {}
        self.batches: list[Batch] = cut([self._slots(i) for i in range(len(self.questions))], batch)

    def plan(self, number: int) -> Plan:
        """What the model reads before it answers question `number`. Raises DataError for an unreadable picture."""
        question = self.questions[number]
        pictures = [picture.decode() for picture in question.item.pictures]
        return self._condition(question.item.index, pictures, question.text)

    def _condition(self, name: str, pictures: Sequence[np.ndarray], text: str) -> tuple[Any, ...]:
        turns = (Turn("user", text), Turn("assistant", "x"))
        return tuple(self._task.condition(Example(name, images=tuple(pictures), turns=turns)))

    def _slots(self, number: int) -> Mapping[str, int] | None:
        """The slots of a question's plan, from the sizes of its pictures and the length of its text alone."""
        question = self.questions[number]
        if question.bad:
            return None
        try:
            sizes = tuple(picture.size() for picture in question.item.pictures)
            if IMAGE_MARKER in question.text:  # it says where the pictures stand
                return self._subject.slots(self._condition(question.item.index, _blank(sizes), question.text))
            if sizes not in self._pictures:
                self._pictures[sizes] = self._condition(question.item.index, _blank(sizes), "")
            words = self._condition(question.item.index, (), question.text)
        except DataError as error:
            self.questions[number] = dataclasses.replace(question, bad=str(error))
            return None
        key = sizes, sum(len(item.data) for item in words)
        if key not in self._known:
            self._known[key] = self._subject.slots([*self._pictures[sizes], *words])
        return self._known[key]


def _blank(sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    return [np.zeros((height, width, 3), np.uint8) for width, height in sizes]


def answer(
    subject: Subject, params: Params, asked: Asked, records: Records | Kept, *, max_new_tokens: int, batch: int,
    progress: Progress = lambda done, total: None,
) -> None:  # fmt: skip
    """Answers what is not in `records` yet. A batch of which one item is missing is computed whole, as before."""
    total = len(asked.questions)
    for question in asked.questions:
        if question.bad and question.item.index not in records:
            records.append(bad_entry(question.item.index, question.bad))
    for one in asked.batches:
        names = [asked.questions[number].item.index for number in one.items]
        if all(name in records for name in names):
            continue
        plans: list[Plan] = []
        entries: list[dict[str, Any]] = []
        for number, name in zip(one.items, names):
            try:
                plans.append(asked.plan(number))
                entries.append({"index": name})
            except DataError as error:
                entries.append(bad_entry(name, str(error)))
        how = {"max_new_tokens": max_new_tokens, "batch": batch, "budgets": one.budgets}
        texts = iter(subject.answer(params, plans, **how) if plans else ())
        for entry in entries:
            if "bad" not in entry:
                entry["reply"] = next(texts)
            if entry["index"] not in records:
                records.append(entry)
        progress(len(records), total)


def bad_entry(index: str, reason: str) -> dict[str, Any]:
    """The line of an item that could not be asked."""
    return {"index": index, "bad": reason}


def replies(items: Sequence[Item], records: Records | Kept) -> tuple[list[Item], list[str]]:
    """The items that were answered, and their replies."""
    good = [(item, entry["reply"]) for item in items if (entry := records.get(item.index)) and "reply" in entry]
    return [item for item, _ in good], [reply for _, reply in good]
