"""Checks of recorded work folders: prediction tables that the common toolkit accepted, and what it scored them."""

from collections.abc import Iterator
from pathlib import Path

from sgt_jax.evaluation.benchmarks import files
from sgt_jax.parity.benchmarks.folder import same
from sgt_jax.parity.checks import Check


def work_folder(path: Path) -> Iterator[Check]:
    """Each prediction table has the rows of its data set, but for the one that was left incomplete on purpose."""
    about = files.read_json(path / "route_b" / "about.json")
    for place in about["placed"]:
        table = path / "route_b" / place
        rows = files.read_sheet(table) if table.suffix == ".xlsx" else files.read_table(table)
        name = table.stem.partition("_")[2]
        source = path.parent / name / f"{name}.tsv"
        if not source.exists():
            yield Check(path.name, place, 0.0, 0.0, None, f"no table {name}.tsv to compare with")
            continue
        wanted = {row["index"] for row in files.read_table(source)}
        complete = {row["index"] for row in rows} == wanted
        yield same(path.name, f"{place} complete", complete, name != about["deliberately_incomplete"])
        yield same(path.name, f"{place} predictions", all("prediction" in row for row in rows), True)
