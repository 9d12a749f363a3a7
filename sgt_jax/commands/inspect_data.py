"""python -m sgt_jax inspect-data --config=FILE [--out DIR]: what a config feeds and supervises, before anything is trained.

Says how long its samples are, which lane budgets would suit them, how full the rows are, how many examples a second are read,
and which mixture comes out; draws what is fed beside what is supervised. Runs without an accelerator.
"""

import argparse
import io
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sgt_jax.commands import configured, errors
from sgt_jax.data.packing import choose, lengths
from sgt_jax.data.pipeline import component_stream
from sgt_jax.errors import DataError
from sgt_jax.reporting import grids

LEVELS = (0, 50, 90, 99, 100)
BARS = " ▁▂▃▄▅▆▇█"
BLOCK = 128  # budgets are suggested in multiples of this, those of rows below 4,096 slots of 8
ROUNDS = 60  # rows that a suggestion is tried on


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sgt_jax inspect-data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=256, help="samples of each part of the mixture to measure")
    parser.add_argument("--batches", type=int, default=8, help="batches to make")
    parser.add_argument("--pictures", type=int, default=4, help="samples of each part to draw")
    parser.add_argument(
        "--out", type=Path, default=Path("inspect-data"), help="folder for lengths.json and pictures.png"
    )
    options, config = configured.parse(parser, arguments)
    from sgt_jax.errors import USER_ERRORS
    from sgt_jax.training import experiment

    def work() -> None:
        inspect(experiment.build(config), options.out, options.samples, options.batches, options.pictures)

    return errors.status(work, USER_ERRORS)


def inspect(task: Any, out: Path, samples: int, batches: int, shown: int) -> dict[str, Any]:
    """Prints the findings and writes them below `out`; returns what lengths.json holds."""
    data = task.config.data
    budgets = dict(data.budgets)
    found: dict[str, Any] = {"budgets": budgets}
    needs: dict[str, list[dict[str, int]]] = {}
    rows, captions = [], []
    parts = [part for part in task.components() if part.weight > 0]
    for part in parts:
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
        more = drawn(task, part, shown)
        rows += [row for row, _ in more]
        captions += [f"{part.name}: {text}" for _, text in more]

    suggestion = suggested(needs, {part.name: part.weight for part in parts}, budgets, data.pool_size)
    found["suggested"] = suggestion
    print(f"suggested budgets: {suggestion['budgets']} (decoder filled {100 * suggestion['fill']:.0f} %, "
          f"with the config's own {100 * suggestion['own_fill']:.0f} %)")  # fmt: skip

    stream = iter(task.batches())
    infos, started = [], time.perf_counter()
    for _ in range(batches):
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
        grids.write_png(out / "pictures.png", grids.grid(rows, ("fed", "supervised"), captions, cell=192))
    print(f"wrote {out / 'lengths.json'}" + (f" and {out / 'pictures.png'}" if rows else ""))
    return found


def measured(part: Any, layout: Any, n: int, seed: int) -> tuple[list[dict[str, int]], dict[str, int]]:
    """Slots per lane of the first n samples of a part's stream, without those that cannot be used: reason -> how many."""
    no_limit = {lane: np.iinfo(np.int64).max for lane in layout.spec}
    stream = component_stream(part, layout, no_limit, seed, "skip")
    good, skipped = [], Counter()
    for i in range(n):
        item = stream[i]
        if item.lanes is None:
            skipped[item.reason] += 1
        else:
            good.append(lengths(item.lanes))
    if not good:
        raise DataError(f"'{part.name}': none of {n} records can be used; the first: {next(iter(skipped))}")
    return good, dict(skipped)


def histogram(values: Sequence[int], bins: int = 24) -> str:
    """Levels and a drawing on one line: '0 % 12  50 % 40 ... |▂█▅ ▁|'."""
    levels = "  ".join(f"{level} % {value:.0f}" for level, value in zip(LEVELS, np.percentile(values, LEVELS)))
    counts, _ = np.histogram(values, bins)
    heights = np.ceil(counts / max(counts.max(), 1) * (len(BARS) - 1)).astype(int)
    return f"mean {np.mean(values):.0f}  {levels}  |{''.join(BARS[h] for h in heights)}|"


def suggested(
    needs: Mapping[str, Sequence[Mapping[str, int]]],
    weights: Mapping[str, float],
    budgets: Mapping[str, int],
    pool_size: int,
) -> dict[str, Any]:
    """Budgets for a decoder of as many slots as the config's, that fill it best and hold every sample that was seen.

    Returns:
      {"budgets", "fill" of the decoder with them, "own_fill" with the config's own}.
    """
    rng = np.random.default_rng(0)
    names = sorted(needs)
    share = np.array([weights[name] for name in names])
    picks = rng.choice(len(names), 40 * ROUNDS, p=share / share.sum())
    stream = [needs[names[k]][int(rng.integers(len(needs[names[k]])))] for k in picks]
    slots = budgets.get("und", 0) + budgets.get("gen", 0)
    largest = {lane: max(need.get(lane, 0) for need in stream) for lane in budgets}
    mean = {lane: max(np.mean([need.get(lane, 0) for need in stream]), 1e-9) for lane in budgets}
    own_fill = _fill(stream, budgets, pool_size)
    holds_all = all(largest[lane] <= budgets[lane] for lane in budgets)
    best = {"budgets": dict(budgets), "fill": own_fill if holds_all else -1.0}
    block = BLOCK if slots >= 4096 else 8

    def blocks(number: float) -> int:
        return int(-(-number // block) * block)

    per_row = slots / sum(mean.get(lane, 0) for lane in ("und", "gen"))
    balanced = mean.get("und", 0) * per_row
    for tilt in (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2):
        und = max(blocks(balanced * tilt), blocks(largest.get("und", 0)))
        gen = slots - und if "gen" in budgets else 0
        if gen < largest.get("gen", 0):
            continue
        tried = {lane: max(blocks(1.3 * mean[lane] * per_row), blocks(largest[lane])) for lane in ("vit", "labels")}
        # Canvases are counted in pictures.
        canvases = {
            lane: max(int(np.ceil(1.3 * mean[lane] * per_row)), largest[lane]) for lane in budgets if ":" in lane
        }
        tried = {"und": und, "gen": gen} | tried | canvases
        tried = {lane: tried[lane] for lane in budgets}
        fill = _fill(stream, tried, pool_size)
        if fill > best["fill"]:
            best = {"budgets": tried, "fill": fill}
    return best | {"own_fill": own_fill}


def _fill(stream: Sequence[Mapping[str, int]], budgets: Mapping[str, int], pool_size: int) -> float:
    """Real slots per slot of the decoder when a stream of lengths is packed."""
    # Only lengths matter to `choose`: a range has one and nothing else.
    items = [{lane: {"": range(n)} for lane, n in need.items()} for need in stream]
    items = [item for item in items if all(len(f[""]) <= budgets.get(lane, 0) for lane, f in item.items())]
    pool, real, rows = [], 0, 0
    for item in items:
        pool.append(item)
        if len(pool) < pool_size:
            continue
        chosen = set(choose(pool, budgets))
        real += sum(lengths(pool[i]).get(lane, 0) for i in chosen for lane in ("und", "gen"))
        pool = [item for i, item in enumerate(pool) if i not in chosen]
        rows += 1
    return real / max(rows * (budgets.get("und", 0) + budgets.get("gen", 0)), 1)


def drawn(task: Any, part: Any, n: int) -> list[tuple[list[np.ndarray | None], str]]:
    """For some records: [what is fed, what is supervised] as pictures, and the texts, supervised ones after an arrow."""
    found = []
    for i in range(len(part.source)):
        if len(found) == n:
            break
        try:
            rng = np.random.default_rng(i)
            example = part.source.example(i, rng) if hasattr(part.source, "example") else part.source[i]
            sample = part.task(example, rng)
        except DataError:
            continue  # counted above
        fed = next((item.data for item in sample.plan if item.type == "vit_image"), None)
        target = next((item.data for item in sample.plan if item.type == "vae_image" and item.loss), None)
        if target is not None and not isinstance(target, np.ndarray):
            target = np.asarray(Image.open(io.BytesIO(part.source.record(i).preview)))
        texts = [
            ("-> " if item.loss else "") + task.tokenizer.decode(item.data)
            for item in sample.plan
            if item.type == "text"
        ]
        found.append(([fed, target], " ".join(texts)[:300]))
    return found
