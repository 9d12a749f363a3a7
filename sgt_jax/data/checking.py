"""Checks data before training: reads every record once, measures lengths, suggests lane budgets."""

import concurrent.futures
import inspect
import io
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sgt_jax.data.examples import Example, Source
from sgt_jax.data.layouts import Layout
from sgt_jax.data.mixture import Mixture
from sgt_jax.data.packing import check_fits, choose, lengths
from sgt_jax.data.pipeline import Component, component_stream
from sgt_jax.data.sources.reading import files
from sgt_jax.data.stored.record import Bad, Record, Shard, decode
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError

AHEAD = 64  # records that are read ahead of each thread


def validate(
    mixture: Mixture, layout: Layout, name: str, limit: int | None = None, threads: int = 1, out: Callable = print
) -> bool:
    """Walks one source and says what it found; whether every record is good.

    Args:
      mixture, layout: of the run.
      name: of the source in config.data.sources.
      limit: stop after so many records; None walks all.
      threads: that decode.
      out: takes lines.
    """
    from sgt_jax.data.sources import open_source

    spec = mixture.config.sources[name].to_dict()
    # Here every bad record counts, so the source must not stop at the first.
    source = open_source(spec, on_bad="skip")
    parts = {n: part.to_dict() for n, part in mixture.config.mixture.items() if part.source == name}
    makes = {n: _maker(mixture, layout, n, part) for n, part in parts.items()}

    def look(item: Record | Bad | int) -> list[Bad]:
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
    shards = _shards(source)
    opened = Counter(getattr(source, "passed_over", {}))
    everything = range(len(source)) if shards is None else itertools.chain.from_iterable(shards)
    items = itertools.islice(everything, limit)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool, Progress(*columns, transient=True) as progress:
        size = _size(source, shards)
        bar = progress.add_task(name, total=min(size, limit or size) if size else None)
        while chunk := list(itertools.islice(items, AHEAD * threads)):
            for found in pool.map(look, chunk):
                bad += bool(found)
                for one in found:
                    counts.setdefault(one.kind, [0, one])[0] += 1
            total += len(chunk)
            progress.update(bar, completed=total)
    out(f"{name}: {total:,} records, {total - bad:,} good, {bad:,} bad: {source!r}")
    if passed_over := sum((shard.passed_over for shard in shards or ()), Counter(opened)):
        out(f"  passed over: {files.listed(passed_over)}")
    for kind, (count, first) in sorted(counts.items(), key=lambda entry: -entry[1][0]):
        out(f"  {count:,} x {kind}; the first: {first.name}\n      {first.reason}")
    if any(not kind.startswith("no use") for kind in counts):
        wanted = inspect.getdoc(sys.modules[type(source).__module__]) or ""
        out("  What a source of this type wants (more in docs/data.md):")
        out("\n".join(f"    {line}" for line in wanted.splitlines()))
    return not bad


def _shards(source: Source) -> Sequence[Shard] | None:
    """The pieces of a source; None where it makes its examples on the fly."""
    return list(source.shards()) if hasattr(source, "shards") else None


def _size(source: Source, shards: Sequence[Shard] | None) -> int | None:
    """How many records a source has; None where that is known only after reading."""
    if shards is None:
        return len(source)
    counts = [shard.count for shard in shards]
    return None if None in counts else sum(counts)


def _maker(mixture: Mixture, layout: Layout, name: str, spec: dict[str, Any]) -> Callable[[Example], object]:
    """Makes a sample as training (or tokenising) would, and checks that it fits the budgets."""
    from sgt_jax.data.pictures import resizing

    data = mixture.config
    if name in mixture.tokenised:
        make = mixture.task(spec, canvases=resizing.ResizeRule(**data.target_size))
        return lambda example: make(example, np.random.default_rng(0))
    make = mixture.task(spec)

    def run(example: Example) -> None:
        sample = make(example, np.random.default_rng(0))
        check_fits(sample.name, layout.lay_out(sample.plan, name=sample.name), dict(data.budgets))

    return run


BLOCK = 128  # budgets are suggested in multiples of this, those of rows below 4,096 slots of 8


ROUNDS = 60  # rows that a suggestion is tried on


def measured(part: Component, layout: Layout, n: int, seed: int) -> tuple[list[dict[str, int]], dict[str, int]]:
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
        others = [lane for lane in budgets if lane not in ("und", "gen")]
        # Canvases, and lanes that a family keeps for whole pictures, are counted in pictures.
        few = {lane for lane in others if ":" in lane or (lane not in ("vit", "labels") and budgets[lane] < block)}
        wanted = {lane: 1.3 * mean[lane] * per_row for lane in others}
        tried = {"und": und, "gen": gen} | {
            lane: max(int(np.ceil(wanted[lane])), largest[lane]) if lane in few
            else max(blocks(wanted[lane]), blocks(largest[lane]))
            for lane in others
        }  # fmt: skip
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


def drawn(tokenizer: Tokenizer, part: Component, n: int) -> list[tuple[list[np.ndarray], np.ndarray | None, str]]:
    """For some records: every picture that is fed, what is supervised, and the texts, supervised ones after an arrow.

    A picture that two encoders read is fed twice, at the size of each.
    """
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
        pictures = [item for item in sample.plan if item.type in ("vit_image", "vae_image") and not item.loss]
        fed = [item.data for item in pictures if isinstance(item.data, np.ndarray)]
        target = next((item.data for item in sample.plan if item.type == "vae_image" and item.loss), None)
        if target is not None and not isinstance(target, np.ndarray):
            target = np.asarray(Image.open(io.BytesIO(part.source.record(i).preview)))
        texts = [
            ("-> " if item.loss else "") + tokenizer.decode(item.data) for item in sample.plan if item.type == "text"
        ]
        found.append((fed, target, " ".join(texts)[:300]))
    return found
