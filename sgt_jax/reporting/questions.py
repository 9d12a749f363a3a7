"""What was asked about the pictures that a report shows, and what was answered: before training, by another run, after it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from sgt_jax.evaluation.items import evaluated_steps, load_items
from sgt_jax.evaluation.schedule import Beside

AFTER = "after"


class Asked(NamedTuple):
    """One question about one picture.

    Attributes:
      question, answer: in words.
      told: (who, what was answered, whether it is right), `AFTER` last.
    """

    question: str
    answer: str
    told: tuple[tuple[str, str, bool], ...]

    @property
    def gained(self) -> bool:
        """Whether it is right after training, and the one told before that is wrong."""
        return len(self.told) > 1 and self.told[-1][2] and not self.told[-2][2]

    def __str__(self) -> str:
        said = "; ".join(f"{who}: {words or 'nothing'} {'✓' if right else '✗'}" for who, words, right in self.told)
        return f"{self.question} ({self.answer}) {said}"


def about(
    evaluators: Mapping[str, Mapping[str, Any]], source: str | None, workdir: epath.Path, beside: Beside | None
) -> dict[str, Asked]:
    """Picture -> the question that an evaluator of the type "answers" asked about it, of the pictures of one source.

    Args:
      evaluators: config.evaluators.
      source: of the pictures.
      workdir: of the finished run.
      beside: another run whose answers are told, too.
    """
    name = next((n for n, o in evaluators.items() if o["type"] == "answers" and o["source"] == source), None)
    steps = evaluated_steps(workdir)
    after = load_items(workdir, steps[-1], name) if name and steps else None
    if after is None:
        return {}
    runs = [("before", load_items(workdir, steps[0], name) if len(steps) > 1 else None)]
    if beside is not None:
        runs.append((beside.name, load_items(beside.folder, evaluated_steps(beside.folder)[-1], name)))
    runs.append((AFTER, after))
    told = [(who, items) for who, items in runs if items is not None]
    return {
        picture: Asked(
            after["question"][i],
            after["answer"][i],
            tuple((who, items["prediction"][i], bool(items["accuracy"][i])) for who, items in told),
        )
        for i, picture in enumerate(after["picture"])
    }


def add(block: dict[str, Any], asked: Mapping[str, Asked], names: Sequence[str]) -> None:
    """Writes the questions below the pictures of a report's block; those that the run gained come first.

    Args:
      block: as in `run_page`, changed in place.
      asked: from `about`.
      names: of the pictures, a row each.
    """
    rows = list(zip(block["rows"], names))  # of the names, those of the rows that are shown
    if len(rows) < len(block["rows"]) or not all(name in asked for _, name in rows):
        return
    rows.sort(key=lambda row: not asked[row[1]].gained)  # stable
    block["rows"] = [row for row, _ in rows]
    block["captions"] = [str(asked[name]) for _, name in rows]
    block["caption"] += " Below each, a question about the same picture, the right answer in brackets."
    if against := [who for who, _, _ in asked[rows[0][1]].told[:-1]]:
        wrong = "it had wrong before" if against[-1] == "before" else f"{against[-1]} has wrong"
        block["caption"] += f" Questions that it has right and {wrong} come first."
