"""What is written beside the answers: scores, the toolkit's prediction tables, and the replies that a judge should read."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.evaluation import statistics
from sgt_jax.evaluation.benchmarks.benchmark import Outcome, Understanding
from sgt_jax.evaluation.benchmarks.items import Item
from sgt_jax.evaluation.benchmarks.records import Records, write_whole

# The toolkit scores tables in a run folder of such a name; a fixed one keeps a resumed run's files identical.
RUN_FOLDER = "T20000101-000000"


def partial(answered: int, benchmark: Any, present: int) -> str:
    """What a score of fewer items than the benchmark has adds to its name, or ""."""
    whole = benchmark.size or present
    return "" if answered >= whole else f" [{answered} of {whole} items]"


def score_entries(benchmark: Understanding, items: Sequence[Item], outcome: Outcome, present: int) -> dict[str, Any]:
    """The contents of scores.json.

    Args:
      items: those that were answered.
      present: items that the folder holds.
    """
    suffix = partial(len(items), benchmark, present)
    name, factor, what = benchmark.paper
    value = next((v for k, v in outcome.scores.items() if k.removesuffix(" (lower bound)") == name), None)
    groups = [benchmark.cluster(item) for item in items] if benchmark.cluster else None
    intervals = {}
    for rule, hits in outcome.hits.items():
        if hits:
            found = statistics.estimate(hits, groups)
            intervals[rule] = {"accuracy": found.value, "low": found.low, "high": found.high, "method": found.method}
    return {
        "benchmark": benchmark.name,
        "answered": len(items),
        "of": benchmark.size or present,
        "complete": not suffix,
        "scores": {key + suffix: number for key, number in outcome.scores.items()},
        "paper": {"score": name, "what": what, "value": None if value is None else value * factor,
                  "lower bound": value is not None and name not in outcome.scores, "complete": not suffix},
        "intervals": intervals,
        "clusters": len(set(groups)) if groups else None,
        "replies for a judge": len(outcome.judged),
    }  # fmt: skip


def item_lines(items: Sequence[Item], outcome: Outcome, cluster: Any = None) -> str:
    """items.jsonl: what each reply was read as, its hits by every rule, and its group."""
    lines = []
    for number, item in enumerate(items):
        hits = {rule: values[number] for rule, values in outcome.hits.items()}
        entry: dict[str, Any] = {"index": item.index, "read": outcome.read[number], "hits": hits}
        entry["kind"] = item.row.get("category") or item.row.get("task") or item.row.get("type") or ""
        if cluster is not None:
            entry["cluster"] = cluster(item)
        lines.append(json.dumps(entry, ensure_ascii=False, sort_keys=True, default=str))
    return "".join(line + "\n" for line in lines)


def prediction_tables(items: Sequence[Item], records: Records, model: str) -> dict[str, str]:
    """Relative path -> text of the tables that the common toolkit's `--mode eval` takes as they are.

    Only items that came from the toolkit's own tables have one. An item that could not be asked has an empty prediction,
    which the toolkit counts as wrong; without its row it would skip the whole table.
    """
    tables: dict[str, list[dict[str, str]]] = {}
    for item in items:
        if item.table and (entry := records.get(item.index)):
            tables.setdefault(item.table, []).append({**_own(item.row), "prediction": entry.get("reply", "")})
    out = {}
    for name, rows in tables.items():
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), delimiter="\t",
                                lineterminator="\n", restval="")  # fmt: skip
        writer.writeheader()
        writer.writerows(rows)
        out[f"work/{model}/{RUN_FOLDER}/{model}_{name}.tsv"] = text.getvalue()
    return out


def _own(row: Mapping[str, str]) -> dict[str, str]:
    """The row without the columns that we added."""
    return {key: value for key, value in row.items() if key not in ("setting", "inside")}


def judge_lines(benchmark: Understanding, items: Sequence[Item], records: Records, judged: Sequence[str]) -> str:
    """judge.jsonl: the replies that the official tool would give to its judge, with all that a judge needs."""
    wanted, lines = set(judged), []
    for item in items:
        if item.index in wanted:
            entry = {"benchmark": benchmark.name, "index": item.index, "row": dict(item.row),
                     "reply": records.get(item.index)["reply"]}  # fmt: skip
            lines.append(json.dumps(entry, ensure_ascii=False, sort_keys=True))
    return "".join(line + "\n" for line in lines)


def write(
    out: Path, benchmark: Understanding, items: Sequence[Item], answered: Sequence[Item], outcome: Outcome,
    records: Records, model: str,
) -> dict[str, Any]:  # fmt: skip
    """Writes scores.json, items.jsonl, judge.jsonl and the prediction tables; returns the scores."""
    entries = score_entries(benchmark, answered, outcome, len(items))
    write_whole(out / "scores.json", json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    write_whole(out / "items.jsonl", item_lines(answered, outcome, benchmark.cluster))
    if outcome.judged:
        write_whole(out / "judge.jsonl", judge_lines(benchmark, answered, records, outcome.judged))
    for name, text in prediction_tables(items, records, model).items():
        write_whole(out / name, text)
    return entries
