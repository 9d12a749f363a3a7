"""python -m sgt_jax inspect-data --config=FILE [--out DIR]: shows what a config feeds and supervises, before you train on it.

Prints how long the samples are, which lane budgets would suit them, how full the rows are, how many examples a second are
read, and which mixture results. Draws each condition beside its target. Needs no accelerator.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax import errors
from sgt_jax.commands import configured
from sgt_jax.commands.parsing import Parser
from sgt_jax.parallel import progress
from sgt_jax.training import checks

LEVELS = (0, 50, 90, 99, 100)
BARS = " ▁▂▃▄▅▆▇█"


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax inspect-data", description=__doc__)
    flags.add_argument("--samples", type=int, default=256, help="samples of each part of the mixture to measure")
    flags.add_argument("--batches", type=int, default=8, help="batches to make")
    flags.add_argument("--pictures", type=int, default=4, help="samples of each part to draw")
    flags.add_argument(
        "--out", type=Path, default=Path("inspect-data"), help="folder for lengths.json and pictures.png"
    )
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    options, config = configured.parse(parser(), arguments)

    def work() -> None:
        checks.check_data(config)
        with progress.shown(f"{config.name}: loading"):
            from sgt_jax.training import experiment

            inspect(experiment.build(config), options.out, options.samples, options.batches, options.pictures)

    return errors.status(work)


def inspect(task: Any, out: Path, samples: int, batches: int, shown: int) -> dict[str, Any]:
    """Prints the findings and writes them below `out`; returns what lengths.json holds."""
    from sgt_jax.data.checking import drawn, measured, suggested
    from sgt_jax.reporting import grids

    data = task.config.data
    budgets = dict(data.budgets)
    found: dict[str, Any] = {"budgets": budgets}
    needs: dict[str, list[dict[str, int]]] = {}
    rows, captions = [], []
    parts = [part for part in task.components() if part.weight > 0]
    for part in parts:
        progress.begin(f"measuring {part.name}")
        started = time.perf_counter()
        needs[part.name], skipped = measured(part, task.layout, samples, data.seed)
        rate = samples / (time.perf_counter() - started)
        found[part.name] = {"lengths": needs[part.name], "skipped": skipped, "examples_per_second": rate}
        print(f"{part.name}: {len(part.source):,} records; {rate:.1f} examples/s by one thread; "
              f"{sum(skipped.values())} of {samples} cannot be used")  # fmt: skip
        for reason, count in skipped.items():
            print(f"  {count} x {reason}")
        for lane in sorted({lane for need in needs[part.name] for lane in need}):
            print(f"  {lane:18} {histogram([need.get(lane, 0) for need in needs[part.name]])}")
        for fed, target, text in drawn(task.tokenizer, part, shown):
            rows.append((fed, target))
            captions.append(f"{part.name}: {text}")

    suggestion = suggested(needs, {part.name: part.weight for part in parts}, budgets, data.pool_size)
    found["suggested"] = suggestion
    print(f"suggested budgets: {suggestion['budgets']} (decoder filled {100 * suggestion['fill']:.0f} %, "
          f"with the config's own {100 * suggestion['own_fill']:.0f} %)")  # fmt: skip

    stream = iter(task.batches())
    infos, started = [], time.perf_counter()
    for _ in progress.counted("making batches", range(batches), batches):
        infos.append(next(stream)[1])
    seconds = time.perf_counter() - started
    taken = sum((Counter(info.samples) for info in infos), Counter())
    fill = {lane: float(np.mean([info.fill[lane] for info in infos])) for lane in infos[0].fill}
    total = sum(part.weight for part in parts)
    found["realised"] = {"samples": dict(taken), "fill": fill, "batches": batches, "seconds": seconds}
    print(f"{batches} batches of {data.rows} rows in {seconds:.1f} s: {sum(taken.values()) / seconds:.1f} samples/s, "
          f"skipped {sum(sum(info.skipped.values()) for info in infos)}")  # fmt: skip
    print("  fill     " + "  ".join(f"{lane} {100 * share:.0f} %" for lane, share in fill.items()))
    print("  mixture  " + "  ".join(
        f"{part.name} {100 * taken[part.name] / max(sum(taken.values()), 1):.1f} % (wanted {100 * part.weight / total:.1f} %)"
        for part in parts))  # fmt: skip

    out.mkdir(parents=True, exist_ok=True)
    (out / "lengths.json").write_text(json.dumps(found))
    if rows:
        most = max(len(fed) for fed, _ in rows)
        cells = [[*fed, *[None] * (most - len(fed)), target] for fed, target in rows]
        names = ["fed", *(f"fed, {number}" for number in range(2, most + 1))][:most]
        grids.write_png(out / "pictures.png", grids.grid(cells, (*names, "supervised"), captions, cell=192))
    print(f"wrote {out / 'lengths.json'}" + (f" and {out / 'pictures.png'}" if rows else ""))
    return found


def histogram(values: Sequence[int], bins: int = 24) -> str:
    """Levels and a drawing on one line: '0 % 12  50 % 40 ... |▂█▅ ▁|'."""
    levels = "  ".join(f"{level} % {value:.0f}" for level, value in zip(LEVELS, np.percentile(values, LEVELS)))
    counts, _ = np.histogram(values, bins)
    heights = np.ceil(counts / max(counts.max(), 1) * (len(BARS) - 1)).astype(int)
    return f"mean {np.mean(values):.0f}  {levels}  |{''.join(BARS[h] for h in heights)}|"
