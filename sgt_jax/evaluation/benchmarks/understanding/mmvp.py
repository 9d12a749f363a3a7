"""MMVP: pairs of pictures that CLIP cannot tell apart, one question for both."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import files, layouts
from sgt_jax.evaluation.benchmarks.benchmark import Outcome, Place, Understanding, choice_outcome, choice_prompt
from sgt_jax.evaluation.benchmarks.items import Item, Picture, without_repeats
from sgt_jax.evaluation.rules.official import bagel, choices, tables


def read(folder: Path) -> list[Item]:
    """The toolkit's table, or the official Questions.csv with `MMVP Images/`."""
    if paths := layouts.first_files(folder, "MMVP.tsv"):
        return sorted(layouts.common_table(paths[0]), key=lambda item: (len(item.index), item.index))
    if not (paths := layouts.first_files(folder, "Questions.csv", "*/Questions.csv")):
        raise DataError(f"{folder}: holds neither MMVP.tsv nor Questions.csv")
    out = []
    for row in files.read_table(paths[0], ","):
        index = (row.get("Index") or row.get("lndex") or "").strip()
        options = bagel.mmvp_options(row["Options"])
        kept = {
            "index": index,
            "question": row["Question"],
            "answer": row["Correct Answer"].strip().strip("()").upper(),
        }
        pictures = [p for end in (".jpg", ".png") if (p := paths[0].parent / "MMVP Images" / f"{index}{end}").is_file()]
        path = pictures[0] if pictures else paths[0].parent / "MMVP Images" / f"{index}.jpg"
        fault = row.get(files.FAULT, "")
        out.append(Item(index, kept | options, (Picture(path.name, path=path),), fault))
    return without_repeats(out)


def prompt(item: Item, style: str) -> str:
    """BAGEL's MMVP prompt is its usual one."""
    return choice_prompt(item, style)


def score(items: Sequence[Item], replies: Sequence[str], style: str) -> Outcome:
    """The toolkit's Average and Overall; with BAGEL's prompt also its own rule. A pair with one item missing is none."""
    pairs = [_pair(item) for item in items]

    def pair_mean(hits: Sequence[float]) -> float:
        groups: dict[str, list[float]] = {}
        for pair, hit in zip(pairs, hits):
            groups.setdefault(pair, []).append(hit)
        return tables.mean(min(group) for group in groups.values() if len(group) == 2)

    def table(rows: list, hits: list) -> dict[str, float]:
        return {"Average": tables.mean(hits), "Overall": pair_mean(hits)}

    outcome = choice_outcome(items, replies, table)
    if style != "bagel":
        return outcome
    read = [bagel.read_mmvp(r, choices.options_of(i.row)) if r else "" for i, r in zip(items, replies)]
    hits = [float(found == item.row["answer"]) for found, item in zip(read, items)]
    scores = {"pairs by BAGEL's rule": pair_mean(hits), "questions by BAGEL's rule": tables.mean(hits)}
    return dataclasses.replace(outcome, scores=scores | outcome.scores, hits={"BAGEL": hits, **outcome.hits})


def _pair(item: Item) -> str:
    return str((int(item.index) - 1) // 2) if item.index.isdigit() else item.index


BENCHMARK = Understanding(
    name="mmvp",
    title="MMVP",
    size=300,
    max_new_tokens=100,
    place=Place("MMVP/MMVP", "MIT", ("MMVP.tsv", "Questions.csv 'MMVP Images/'")),
    read=read,
    prompt=prompt,
    score=score,
    paper=("Average", 100, "accuracy per question (the official number counts pairs)"),
    cluster=_pair,
)
