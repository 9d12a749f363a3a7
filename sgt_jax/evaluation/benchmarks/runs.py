"""One understanding benchmark from its folder to its scores, with a model or with a server."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError, beside
from sgt_jax.evaluation.benchmarks import answering, items, manifests, outputs
from sgt_jax.evaluation.benchmarks.benchmark import Understanding
from sgt_jax.evaluation.benchmarks.records import Records, write_whole
from sgt_jax.evaluation.subject import Params, Subject


@dataclasses.dataclass(frozen=True)
class Settings:
    """How questions are asked.

    Attributes:
      style: "toolkit" or "bagel": whose words.
      batch: questions at a time.
      limit: the first items only; 0: all.
      model: the name in prediction tables.
      weights: a hash of the model's tensors.
      max_new_tokens: of a reply; 0: the benchmark's own.
    """

    style: str = "toolkit"
    batch: int = 8
    limit: int = 0
    model: str = "model"
    weights: str = ""
    max_new_tokens: int = 0


# (questions, records) -> None: answers what is not in the records yet.
Answer = Callable[[Sequence[answering.Question], Records], None]


def load(benchmark: Understanding, folder: Path, limit: int = 0) -> list[items.Item]:
    """The items of a benchmark's folder.

    Raises:
      DataError: the folder holds no layout that is known, or no items.
    """
    if not folder.is_dir():
        where = f"docs/benchmarks.md says where {benchmark.title} comes from"
        raise DataError(f"{folder}: no such folder{beside(folder)}; {where}")
    found = benchmark.read(folder)
    if not found:
        raise DataError(f"{folder}: holds no items of {benchmark.title}; download it again")
    return found[:limit] if limit else found


def score(
    benchmark: Understanding, found: list[items.Item], records: Records, out: Path, settings: Settings
) -> dict[str, Any]:
    """Scores what was answered and writes the files beside the answers."""
    answered, replies = answering.replies(found, records)
    if not answered:
        raise DataError(f"{out}: none of {len(found)} items could be asked; the first: {next(iter(records))}")
    outcome = benchmark.score(answered, replies, settings.style)
    entries = outputs.write(out, benchmark, found, answered, outcome, records, settings.model)
    bad = Counter(entry["bad"] for entry in records if "bad" in entry)
    return {**entries, "bad": dict(bad), "style": settings.style}


def run(
    benchmark: Understanding, folder: Path, out: Path, answer: Answer, settings: Settings,
    unknown: Callable[[str], list[str]] = lambda text: [],
) -> dict[str, Any]:  # fmt: skip
    """Reads, asks, scores and writes one benchmark below `out`; resumes what is there.

    Args:
      unknown: text -> words that the tokenizer does not know; they are counted in the manifest.

    Raises:
      DataError: no items, or the folder was begun with another model or other settings.
    """
    found = load(benchmark, folder, settings.limit)
    asked = answering.questions(benchmark, found, settings.style)
    words = Counter(word for question in asked for word in unknown(question.text))
    made_with = {
        "benchmark": benchmark.name,
        "weights": settings.weights,
        "items": {"count": len(found), "whole": benchmark.size, "digest": items.digest(found)},
        "settings": {"prompt": settings.style, "batch": settings.batch, "limit": settings.limit, "greedy": True,
                     "think": False, "max_new_tokens": settings.max_new_tokens or benchmark.max_new_tokens},
        "model": settings.model,
        "unknown_words": dict(sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))[:50]),
        "unknown_words_in_all": sum(words.values()),
    }  # fmt: skip
    manifests.open_manifest(out, made_with)
    records = Records(out / "answers.jsonl")
    answer(asked, records)
    entries = score(benchmark, found, records, out, settings)
    write_whole(out / "scores.json", json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    return entries


def by_model(
    subject: Subject, params: Params, benchmark: Understanding, settings: Settings,
    progress: answering.Progress = lambda done, total: None,
) -> Answer:  # fmt: skip
    """Answers with a model."""

    def answer(questions: Sequence[answering.Question], records: Records) -> None:
        asked = answering.Asked(subject, questions, settings.batch)
        tokens = settings.max_new_tokens or benchmark.max_new_tokens
        answering.answer(
            subject, params, asked, records, max_new_tokens=tokens, batch=settings.batch, progress=progress
        )

    return answer
