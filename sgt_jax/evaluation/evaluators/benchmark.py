"""A real benchmark inside a run: the first questions of it, in the run's own words, by the official rule."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax.errors import ConfigError, hint
from sgt_jax.evaluation.benchmarks import answering, registry, runs
from sgt_jax.evaluation.benchmarks.records import Kept
from sgt_jax.evaluation.result import Items, Result, Title, by_kind
from sgt_jax.evaluation.statistics import Score
from sgt_jax.evaluation.subject import Params, Subject


class Benchmark:
    """Questions of one understanding benchmark, answered greedily.

    Options:
      name: of the benchmark; docs/benchmarks.md lists them.
      folder: where its files lie.
      limit: the first items only; 0: all. The score says how many there were.
      prompt: "toolkit" or "bagel".
      max_new_tokens: of a reply; 0: the benchmark's own.
      batch: questions at a time.
    """

    TITLE = Title("Benchmark")

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        if options["name"] not in registry.UNDERSTANDING:
            near = hint(options["name"], registry.UNDERSTANDING, "choose one of")
            raise ConfigError(f"benchmark '{options['name']}': {near}")
        self._subject, self._options = subject, options
        self._benchmark = registry.by_name(options["name"])
        self._items = runs.load(self._benchmark, Path(options["folder"]), options["limit"])
        questions = answering.questions(self._benchmark, self._items, options["prompt"])
        self._asked = answering.Asked(subject, questions, options["batch"])

    def __call__(self, params: Params) -> Result:
        options, benchmark = self._options, self._benchmark
        records = Kept()
        answering.answer(
            self._subject, params, self._asked, records, batch=options["batch"],
            max_new_tokens=options["max_new_tokens"] or benchmark.max_new_tokens,
        )  # fmt: skip
        items, replies = answering.replies(self._items, records)
        outcome = benchmark.score(items, replies, options["prompt"])
        whole = benchmark.size or len(self._items)
        return Result(
            {
                "hit": list(outcome.hits[outcome.main]),
                "kind": [item.row.get("category") or item.row.get("type") or "all" for item in items],
                "cluster": [benchmark.cluster(item) if benchmark.cluster else item.index for item in items],
                "index": [item.index for item in items],
                "reply": replies,
                "name": [f"{benchmark.title}, {len(items)} of {whole} items"] * len(items),
            }
        )

    @staticmethod
    def scores(after: Items, before: Items | None) -> list[Score]:
        """Accuracy by the official rule over all items, then by kind; the name says how many items there were."""
        if before is not None and list(before["index"]) != list(after["index"]):
            before = None  # the limit was changed in between
        clusters = np.asarray(after["cluster"])
        groups = {"groups": clusters} if len(set(after["cluster"])) < len(clusters) else {}
        return by_kind(
            after, before, group="understanding", name=after["name"][0], key="hit", by="kind",
            kinds=sorted(set(after["kind"])), items="benchmark items", unit="%", **groups,
        )  # fmt: skip
