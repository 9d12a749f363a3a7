"""python -m sgt_jax validate --config=FILE: walks every source of a config before a run does; exit 1 if a record is bad.

Every record is read and decoded, and every part of the mixture that uses its source makes its sample of it, so that what
training would skip or stop at is known beforehand: per kind the number, and the first one with its path and the reason.
"""

import argparse
import concurrent.futures
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sgt_jax.commands import configured, errors
from sgt_jax.data.packing import check_fits
from sgt_jax.data.stored.record import Bad, Record, decode
from sgt_jax.data.stored.tokenised import read_settings
from sgt_jax.errors import DataError

AHEAD = 64  # records that are read ahead of each thread


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sgt_jax validate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", action="append", help="only this one of config.data.sources; may be repeated")
    parser.add_argument("--limit", type=int, help="look at the first so many records of each source")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="that decode")
    options, config = configured.parse(parser, arguments)
    from sgt_jax.errors import USER_ERRORS
    from sgt_jax.training import experiment

    def work() -> int:
        task = experiment.build(config)
        names = options.source or sorted(config.data.sources)
        if unknown := sorted(set(names) - set(config.data.sources)):
            raise DataError(f"no source '{unknown[0]}'; the config has {', '.join(config.data.sources)}")
        good = [validate(task, name, options.limit, options.threads) for name in names]
        for name, root in sorted(task.tokenised.items()):
            begun = read_settings(Path(root)) is not None
            print(f"{name}: {task.tokenised_source(name) if begun else f'{root} is still to be made by tokenize'}")
        return 0 if all(good) else 1

    return errors.status(work, USER_ERRORS)


def validate(task: Any, name: str, limit: int | None = None, threads: int = 1, out: Callable = print) -> bool:
    """Walks one source and says what it found; whether every record is good.

    Args:
      task: the Experiment.
      name: of the source in its config.
      limit: stop after so many records; None walks all.
      threads: that decode.
      out: takes lines.
    """
    from sgt_jax.data.sources import open_source

    spec = task.config.data.sources[name].to_dict()
    # Here every bad record counts, so the source must not stop at the first.
    source = open_source(spec, on_bad="skip")
    parts = {n: part.to_dict() for n, part in task.config.data.mixture.items() if part.source == name}
    makes = {n: _maker(task, n, part) for n, part in parts.items()}

    def look(item: Any) -> list[Bad]:
        try:
            if isinstance(item, Bad):
                return [item]
            example = decode(item) if isinstance(item, Record) else source[item]
        except DataError as error:
            return [Bad(getattr(item, "name", f"{source!r}[{item}]"), getattr(error, "kind", "unusable"), str(error))]
        found = []
        for part, make in makes.items():
            try:
                make(example)
            except DataError as error:
                found.append(Bad(example.name, f"no use for '{part}'", str(error)))
        return found

    counts: dict[str, list] = {}
    total = bad = 0
    columns = (TextColumn(name), BarColumn(), TextColumn("{task.completed:,} records"), TimeElapsedColumn())
    items = itertools.islice(_items(source), limit)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool, Progress(*columns, transient=True) as progress:
        size = len(source) if hasattr(source, "__len__") else None
        bar = progress.add_task(name, total=min(size, limit or size) if size else None)
        while chunk := list(itertools.islice(items, AHEAD * threads)):
            for found in pool.map(look, chunk):
                bad += bool(found)
                for one in found:
                    counts.setdefault(one.kind, [0, one])[0] += 1
            total += len(chunk)
            progress.update(bar, completed=total)
    out(f"{name}: {total:,} records, {total - bad:,} good, {bad:,} bad: {source!r}")
    for kind, (count, first) in sorted(counts.items(), key=lambda entry: -entry[1][0]):
        out(f"  {count:,} x {kind}; the first: {first.name}\n      {first.reason}")
    if any(not kind.startswith("no use") for kind in counts):
        wanted = inspect.getdoc(sys.modules[type(source).__module__]) or ""
        out("  What a source of this type wants (more in docs/data.md):")
        out("\n".join(f"    {line}" for line in wanted.splitlines()))
    return not bad


def _items(source: Any) -> Iterator[Any]:
    """Everything that a source has: records and bad ones, or indices where it makes its examples on the fly."""
    if hasattr(source, "shards"):
        return itertools.chain.from_iterable(source.shards())
    return iter(range(len(source)))


def _maker(task: Any, name: str, spec: dict[str, Any]) -> Callable[[Any], None]:
    """Makes a sample as training (or tokenising) would, and checks that it fits the budgets."""
    from sgt_jax.data import tasks

    data = task.config.data
    if name in task.tokenised:
        make = task.task(spec, canvases=tasks.VitSize(**data.target_size))
        return lambda example: make(example, np.random.default_rng(0))
    make = task.task(spec)

    def run(example: Any) -> None:
        sample = make(example, np.random.default_rng(0))
        check_fits(sample.name, task.layout.lay_out(sample.plan, name=sample.name), dict(data.budgets))

    return run
