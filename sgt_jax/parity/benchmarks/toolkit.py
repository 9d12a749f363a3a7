"""Checks of what was recorded from the common toolkit (VLMEvalKit)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.evaluation.benchmarks import files
from sgt_jax.evaluation.rules.official import choices, mathvista, tables, yes_no
from sgt_jax.parity.benchmarks.folder import close_all, expected_of, same
from sgt_jax.parity.checks import Check

Row = dict[str, Any]


def _rows(folder: Path) -> tuple[list[Row], list[str]]:
    """The rows and the replies as the toolkit sees them, in the order of the index where it is a number."""
    path = next(iter(sorted(folder.glob("*.tsv"))), folder / f"{folder.name}.tsv")
    given = [{k: v for k, v in row.items() if k != "image"} for row in files.read_table(path)]
    replies = files.read_json(folder / "replies.json")
    if all(row["index"].isdigit() for row in given):
        given.sort(key=lambda row: int(row["index"]))
    texts = [str(replies[row["index"]]) for row in given]
    rows = tables.read_back(given)
    for row, raw in zip(rows, given):
        row["index"] = raw["index"]
    return rows, tables.read_back_replies(texts)


def _by_index(entries: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {str(entry["index"]): entry for entry in entries}


def _table_of(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded table as nested mappings: by its first column, if that holds names."""
    names, rows = expected["score_table"]["columns"], expected["score_table"]["rows"]
    if names[0] in ("split", "Task&Skill"):
        return {row[0]: dict(zip(names[1:], row[1:])) for row in rows}
    return dict(zip(names, rows[0]))


def multiple_choice(folder: Path) -> Iterator[Check]:
    """MMStar, RealWorldQA, CV-Bench and MMVP: letters, hits and the table."""
    name, expected = folder.name, expected_of(folder)
    rows, replies = _rows(folder)
    items, hits = _by_index(expected["items"]), []
    yield same(name, "items", sorted(items), sorted(row["index"] for row in rows))
    for row, reply in zip(rows, replies, strict=True):
        read = choices.read_choice(reply, choices.options_of(row))
        hits.append(int(read == row["answer"]))
        yield same(name, f"item {row['index']} letter", read, items[row["index"]]["extracted"])
        yield same(name, f"item {row['index']} hit", hits[-1], items[row["index"]]["hit"])
    benchmark = expected["benchmark"]
    make = {"MMVP": tables.pair_table}.get(benchmark)
    if make is None:
        make_rows = tables.source_table if benchmark == "CV-Bench-2D" else tables.accuracy_table
        found = make_rows(rows, hits)
    else:
        found = make(hits)
    yield from close_all(name, "table", found, _table_of(expected))


def circular(folder: Path) -> Iterator[Check]:
    """MMBench: every rotation's letter, the hit of every question, the table."""
    name, expected = folder.name, expected_of(folder)
    rows, replies = _rows(folder)
    rotations, items = _by_index(expected["per_rotation"]), _by_index(expected["items"])
    yield same(name, "rotations", sorted(rotations), sorted(row["index"] for row in rows))
    hits = []
    for row, reply in zip(rows, replies, strict=True):
        read = choices.read_choice(reply, choices.options_of(row))
        hits.append(int(read == row["answer"]))
        yield same(name, f"rotation {row['index']} letter", read, rotations[row["index"]]["extracted"])
    found = tables.circular_hits([int(row["index"]) for row in rows], hits)
    for index, entry in items.items():
        yield same(name, f"item {index} hit", found.get(int(index)), entry["hit"])
    base = [row for row in rows if int(row["index"]) in found]
    table = tables.accuracy_table(base, [found[int(row["index"])] for row in base])
    yield from close_all(name, "table", table, _table_of(expected))


def answers_yes_no(folder: Path) -> Iterator[Check]:
    """POPE, VSR, MME and HallusionBench: what each reply is read as, whether it is right, the table."""
    name, expected = folder.name, expected_of(folder)
    rows, replies = _rows(folder)
    items = _by_index(expected["items"])
    yield same(name, "items", sorted(items), sorted(row["index"] for row in rows))
    read = [yes_no.read_yes_no(reply) for reply in replies]
    hits = [found == row["answer"] for row, found in zip(rows, read)]
    for row, found, hit in zip(rows, read, hits):
        yield same(name, f"item {row['index']} read", found, items[row["index"]]["extracted"])
        yield same(name, f"item {row['index']} hit", hit, items[row["index"]]["score"])
    table = {
        "POPE": lambda: yes_no.pope_table(rows, read),
        "VSR-zeroshot": lambda: yes_no.vsr_table(rows, read),
        "MME": lambda: yes_no.mme_table(rows, hits),
        "HallusionBench": lambda: yes_no.hallusion_table(rows, hits),
    }[expected["benchmark"]]()
    yield from close_all(name, "table", table, _table_of(expected))


def math_vista(folder: Path) -> Iterator[Check]:
    """MathVista in the toolkit: rules only, its judge always fails."""
    name, expected = folder.name, expected_of(folder)
    rows, replies = _rows(folder)
    items = _by_index(expected["items"])
    yield same(name, "items", sorted(items), sorted(row["index"] for row in rows))
    readings = [mathvista.read_by_rules(row, reply) for row, reply in zip(rows, replies, strict=True)]
    for row, reading in zip(rows, readings):
        wanted = items[row["index"]]
        for key, got in (("prefetch", reading.prefetch), ("res", reading.result), ("hit", reading.hit)):
            yield same(name, f"item {row['index']} {key}", got, wanted[key])
    yield from close_all(name, "table", mathvista.table(rows, readings), _table_of(expected))


def extraction(folder: Path) -> Iterator[Check]:
    """The letter rule, the text rule, both together and the yes/no rule, reply by reply."""
    name, expected = folder.name, expected_of(folder)
    for i, entry in enumerate(expected["multiple_choice"]):
        reply, options = entry["reply"], entry["choices"]
        found = {
            "option_rule": choices.letter(reply, options),
            "text_rule": choices.text_option(reply, options),
            "result": choices.read_choice(reply, options),
        }
        for key, got in found.items():
            yield same(name, f"choice {i} {key}", got, entry[key])
    for i, entry in enumerate(expected["yes_no"]):
        yield same(name, f"yes/no {i}", yes_no.read_yes_no(entry["reply"]), entry["result"])
