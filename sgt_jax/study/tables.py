"""What the files of a study say: scores of every arm with intervals, and paired contrasts with the arms of reference."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from sgt_jax.data.stored.places import regular
from sgt_jax.errors import DataError
from sgt_jax.evaluation import statistics
from sgt_jax.evaluation.statistics import Contrast, Estimate
from sgt_jax.study import records

RESAMPLES = 2000
OVERALL = "overall"


class Cell(NamedTuple):
    """One arm's score: its mean over seeds and items, and how it differs from each arm of reference."""

    value: Estimate
    against: Mapping[str, Contrast]
    adjusted: Mapping[str, float | None]  # p-values by Holm's rule over the arms of this score


class Column(NamedTuple):
    """One score of all arms; `cells` is keyed by arm, only arms that have results are there."""

    name: str
    title: str
    cells: Mapping[str, Cell]


class Results(NamedTuple):
    """A study's results, as read from its folder."""

    facts: Mapping[str, Any]  # study.json
    labels: Mapping[str, Mapping[str, list]]  # items.json
    records: Mapping[str, Mapping[int, Mapping[str, Any]]]  # arm -> seed -> its file


def read_results(folder: epath.PathLike) -> Results:
    """Reads a results folder.

    Raises:
      DataError: it is none, no run has ended, or a run is of an arm that the study does not have.
    """
    folder = epath.Path(folder)
    if not records.is_study(folder):
        raise DataError(f"{folder}: holds no {records.STUDY}; give the --results of a study")
    facts = json.loads(regular(folder / records.STUDY).read_text())
    by_arm: dict[str, dict[int, Any]] = {}
    for record in records.finished(folder):
        if record["arm"] not in facts["arms"]:
            raise DataError(f"{folder}: has a run of arm '{record['arm']}', which {records.STUDY} does not know")
        by_arm.setdefault(record["arm"], {})[record["seed"]] = record
    if not by_arm:
        raise DataError(f"{folder}: no run has come to its end yet")
    labels = json.loads((folder / records.ITEMS).read_text())
    return Results(facts, labels, {arm: by_arm[arm] for arm in facts["arms"] if arm in by_arm})


def items(results: Results, arm: str, spec: Mapping[str, Any]) -> tuple[np.ndarray, list[int]]:
    """Per-item results of a score of an arm, float64 [seeds, items], and the seeds."""
    seeds = sorted(results.records[arm])
    pick = chosen(results, spec)
    rows = [records.unpack(results.records[arm][s]["items"][spec["evaluator"]][spec["item"]])[pick] for s in seeds]
    return np.stack(rows), seeds


def chosen(results: Results, spec: Mapping[str, Any]) -> np.ndarray:
    """Numbers of the items that a score is about."""
    labels = results.labels[spec["evaluator"]]
    if spec.get("of"):
        return np.flatnonzero(np.isin(labels[spec["by"]], spec["of"]))
    first_arm = next(iter(results.records.values()))
    first = next(iter(first_arm.values()))
    return np.arange(len(first["items"][spec["evaluator"]][spec["item"]]))


def column(results: Results, name: str, spec: Mapping[str, Any], resamples: int = RESAMPLES) -> Column:
    """One score of all arms that have results."""
    return _compared(results, name, spec["title"], [spec], resamples)


def overall(results: Results, resamples: int = RESAMPLES) -> Column:
    """The plain mean of the groups of understanding scores, as the paper has it."""
    specs = [results.facts["scores"][name] for name in results.facts["understanding"]]
    return _compared(results, OVERALL, "understanding, overall", specs, resamples)


def _compared(results: Results, name: str, title: str, specs: Sequence[Mapping[str, Any]], resamples: int) -> Column:
    """The mean of some scores: of each arm, and against the arms of reference."""
    groups = [_groups(results, spec) for spec in specs]
    scored = {arm: [items(results, arm, spec) for spec in specs] for arm in results.records}
    contrasts: dict[str, dict[str, Contrast]] = {arm: {} for arm in scored}
    adjusted: dict[str, dict[str, float | None]] = {arm: {} for arm in scored}
    for reference in results.facts["references"]:
        if reference not in scored:
            continue
        for arm in scored:
            pairs = [paired(a, b) for a, b in zip(scored[arm], scored[reference], strict=True)]
            if arm != reference and pairs[0] is not None:
                parts = [(*pair, g) for pair, g in zip(pairs, groups, strict=True)]
                contrasts[arm][reference] = statistics.contrast_of_parts(parts, resamples=resamples)
        arms = [arm for arm in scored if reference in contrasts[arm]]
        for arm, p in zip(arms, statistics.holm([contrasts[arm][reference].p for arm in arms]), strict=True):
            adjusted[arm][reference] = p
    cells = {}
    for arm, parts in scored.items():
        rows = [(values, g) for (values, _), g in zip(parts, groups, strict=True)]
        cells[arm] = Cell(statistics.mean_of_parts(rows, resamples=resamples), contrasts[arm], adjusted[arm])
    return Column(name, title, cells)


def _groups(results: Results, spec: Mapping[str, Any]) -> np.ndarray | None:
    if not spec.get("groups"):
        return None
    return np.asarray(results.labels[spec["evaluator"]][spec["groups"]])[chosen(results, spec)]


def paired(
    a: tuple[np.ndarray, Sequence[int]], b: tuple[np.ndarray, Sequence[int]]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Results of the seeds that both arms have; an arm with one run stands against every seed. None: no seed is shared."""
    (rows_a, seeds_a), (rows_b, seeds_b) = a, b
    if len(seeds_b) == 1:
        return rows_a, rows_b
    if len(seeds_a) == 1 and seeds_a[0] not in seeds_b:
        return None
    shared = [s for s in seeds_a if s in seeds_b]
    if not shared:
        return None
    if len(seeds_a) == 1:  # an arm that needs no seed, against the mean of the others
        return rows_a, rows_b.mean(0, keepdims=True)
    return rows_a[[seeds_a.index(s) for s in shared]], rows_b[[seeds_b.index(s) for s in shared]]


def columns(results: Results, resamples: int = RESAMPLES) -> list[Column]:
    """The scores of the study's config, in its order, after the mean of those of understanding."""
    specs = results.facts["scores"].items()
    return [overall(results, resamples), *(column(results, name, spec, resamples) for name, spec in specs)]


def at_step(results: Results, step: int) -> Results:
    """The results as they were after a step, of the arms that were scored there; see `history.py`."""
    by_arm: dict[str, dict[int, Any]] = {}
    for arm, seeds in results.records.items():
        for seed, record in seeds.items():
            for entry in record.get("history", ()):
                if entry["step"] == step:
                    by_arm.setdefault(arm, {})[seed] = {**record, **entry}
    return results._replace(records=by_arm)


def by_kind(results: Results, evaluator: str, item: str) -> list[tuple[str, Mapping[str, float]]]:
    """Mean of an evaluator's item for every kind of its split: (kind, {arm: mean})."""
    kinds = results.labels[evaluator][results.facts["splits"][evaluator]]
    table = []
    for kind in dict.fromkeys(kinds):
        spec = dict(evaluator=evaluator, item=item, by=results.facts["splits"][evaluator], of=[kind])
        table.append((kind, {arm: float(items(results, arm, spec)[0].mean()) for arm in results.records}))
    return table
