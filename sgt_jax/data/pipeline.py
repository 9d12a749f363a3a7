"""The Grain graph: sources -> tasks -> layout -> mixture -> packing -> rows -> batches.

The global batch has R rows, whatever the number of devices and processes. Row r reads positions r, r+R, r+2R, ... of every
component's endless shuffled stream, mixes them by an exact pattern, and packs them with its own pool. All randomness
comes from Grain's per-record generators, so neither threads nor processes change what a row sees, and the state of a row
is a few integers.
"""

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import grain
import numpy as np

from sgt_jax.batch import PackedBatch, real_slots
from sgt_jax.data.examples import Source
from sgt_jax.data.layouts import Layout
from sgt_jax.data.packing import Lanes, Spec, check_fits, choose, empty_batch, pack, pack_into
from sgt_jax.data.tasks import Task
from sgt_jax.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Component:
    """One part of the mixture.

    Attributes:
      name: how logs and reports call it.
      source: random-access source of Examples (`__len__`, `__getitem__`); one with a method
        `example(index, rng)` gets a generator too, for draws that change from epoch to epoch.
      task: Example, generator -> Sample.
      weight: share in *samples* of the stream.
    """

    name: str
    source: Source
    task: Task
    weight: float


class LaidOut(NamedTuple):
    """A laid-out sample with its provenance; `lanes` is None for a record that was skipped, `kind` and `reason` say why.

    `cpu` are the seconds of processor time that it cost.
    """

    component: str
    name: str
    lanes: Lanes | None
    reason: str = ""
    kind: str = ""
    cpu: float = 0.0


class BatchInfo(NamedTuple):
    """What the host knows about a batch.

    Attributes:
      names: per row, the provenance of its samples.
      samples: samples per component.
      skipped: records skipped per component and kind ("understanding: missing picture") while this batch was filled.
      fill: real share of the slots per lane.
      cpu: seconds of processor time that reading, laying out and packing took, in whatever threads.
    """

    names: tuple[tuple[str, ...], ...]
    samples: Mapping[str, int]
    skipped: Mapping[str, int]
    fill: Mapping[str, float]
    cpu: float = 0.0


class _Indices:
    """0, 1, 2, ... as a data source: Grain shuffles these, the example is read inside the seeded map."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> int:
        return int(i)


@dataclasses.dataclass(frozen=True)
class _ToLanes(grain.transforms.RandomMap):
    """index -> LaidOut; DataErrors become counted skips where the config allows that."""

    component: Component
    layout: Layout
    budgets: Mapping[str, int]
    on_bad: str

    def random_map(self, element: int, rng: np.random.Generator) -> LaidOut:
        part, began = self.component, time.thread_time()
        try:
            if hasattr(part.source, "example"):
                example = part.source.example(element, rng)
            else:
                example = part.source[element]
            sample = part.task(example, rng)
            lanes = self.layout.lay_out(sample.plan, rng.random, sample.name)
            check_fits(sample.name, lanes, self.budgets)
        except DataError as error:
            if self.on_bad == "error":
                raise
            # Tasks and proxies raise plain DataErrors: the record is whole, but not for them.
            kind = getattr(error, "kind", "unfit for its task")
            return LaidOut(part.name, f"{part.name}[{element}]", None, str(error), kind, time.thread_time() - began)
        return LaidOut(part.name, sample.name, lanes, cpu=time.thread_time() - began)


def component_stream(
    part: Component, layout: Layout, budgets: Mapping[str, int], seed: int, on_bad: str
) -> grain.MapDataset:
    """The endless stream of one component, reshuffled every epoch: LaidOut samples.

    Raises:
      DataError: the source is empty.
    """
    if not len(part.source):
        raise DataError(f"component '{part.name}' has no records; check its path and filters")
    stream = grain.MapDataset.source(_Indices(len(part.source))).seed(seed).shuffle().repeat()
    return stream.random_map(_ToLanes(part, layout, budgets, on_bad))


@dataclasses.dataclass
class Health:
    """Tells a bad record from a dead source (a mount that is gone, a wrong path), for every component by itself.

    All rows of a process share it, so that a small component among many is not missed.

    Attributes:
      records: of each component's source.
      max_skips: so many records of a component in a row, and it is dead; so is one that never gave a good record, after
        as many as it has, or `AT_LEAST`.
    """

    records: Mapping[str, int]
    max_skips: int = 100
    in_a_row: Counter = dataclasses.field(default_factory=Counter)
    alive: set[str] = dataclasses.field(default_factory=set)

    def note(self, item: LaidOut) -> None:
        """Takes in a record that was read.

        Raises:
          DataError: its component is dead.
        """
        name = item.component
        if item.lanes is not None:
            self.in_a_row[name] = 0
            self.alive.add(name)
            return
        self.in_a_row[name] += 1
        limit = self.max_skips
        if name not in self.alive:
            limit = min(limit, max(self.records.get(name, limit), AT_LEAST))
        if self.in_a_row[name] >= limit:
            raise DataError(
                f"component '{name}': {self.in_a_row[name]} records in a row could not be used, so its source is dead or"
                f" wrong; the last one: {item.name}: {item.reason}"
            )


AT_LEAST = 10


class _RowIterator(grain.DatasetIterator):
    """Packs one row's stream. State: how far the stream was read, and which positions wait in the pool."""

    def __init__(self, dataset: "RowDataset") -> None:
        super().__init__()
        self._dataset = dataset
        self._restart(0, [])

    def _restart(self, position: int, pool: Sequence[int], packs: int = 0) -> None:
        options = grain.ReadOptions(self._dataset.read_threads, max(2 * self._dataset.read_threads, 1))
        stream = self._dataset.streams[sum(packs >= end for end in self._dataset.ends)]
        # Slicing the stream is random access, so restoring costs no replay.
        self._stream = iter(stream[position:].to_iter_dataset(options))
        self._position, self._packs = position, packs
        self._pool = [(i, stream[i]) for i in pool]

    def __next__(self) -> tuple[dict, tuple[LaidOut, ...], Counter]:
        taken, skipped, _ = self.take()
        return pack([item.lanes for item in taken], self._dataset.spec, self._dataset.budgets), taken, skipped

    def take(self) -> tuple[tuple[LaidOut, ...], Counter, float]:
        """Samples of the next pack, what was skipped before them, and the processor time of all that was read for it."""
        data, cpu = self._dataset, 0.0
        skipped: Counter = Counter()
        while len(self._pool) < data.pool_size:
            item = next(self._stream)
            cpu += item.cpu
            if item.lanes is not None:
                self._pool.append((self._position, item))
            else:
                skipped[f"{item.component}: {item.kind}"] += 1
                logger.warning("skipped %s: %s", item.name, item.reason)
            data.health.note(item)
            self._position += 1
        chosen = choose([item.lanes for _, item in self._pool], data.budgets)
        taken = tuple(self._pool[i][1] for i in chosen)
        self._pool = [entry for i, entry in enumerate(self._pool) if i not in set(chosen)]
        self._packs += 1
        if self._packs in data.ends:  # what still waits belongs to the stage that has ended
            self._restart(0, [], self._packs)
        return taken, skipped, cpu

    def get_state(self) -> dict[str, Any]:
        state = {"position": self._position, "pool": [i for i, _ in self._pool]}
        return state | ({"packs": self._packs} if self._dataset.ends else {})

    def set_state(self, state: dict[str, Any]) -> None:
        self._restart(state["position"], state["pool"], state.get("packs", 0))


@dataclasses.dataclass
class RowDataset:
    """One row: endless streams of LaidOut, packed into lanes of the given budgets.

    There is one stream, or one for each stage; `ends` are the packs after which the next one begins.
    """

    streams: Sequence[grain.MapDataset]  # of LaidOut
    spec: Spec
    budgets: Mapping[str, int]
    pool_size: int
    read_threads: int
    ends: Sequence[int] = ()
    health: Health = dataclasses.field(default_factory=lambda: Health({}))

    def __iter__(self) -> _RowIterator:
        return _RowIterator(self)


class _BatchIterator(grain.DatasetIterator):
    """Stacks the next packs of all rows. State: {row number as text: that row's state}."""

    def __init__(self, rows: Mapping[int, RowDataset]) -> None:
        super().__init__()
        self._rows = {r: iter(row) for r, row in rows.items()}

    def __next__(self) -> tuple[PackedBatch, BatchInfo]:
        first = next(iter(self._rows.values()))._dataset
        batch = empty_batch(len(self._rows), first.spec, first.budgets)
        names, cpu = [], 0.0
        samples: Counter = Counter()
        skipped: Counter = Counter()
        for number, row in enumerate(self._rows.values()):
            taken, skips, seconds = row.take()
            began = time.thread_time()
            pack_into(batch, number, [item.lanes for item in taken], first.spec, first.budgets)
            names.append(tuple(f"{item.component}:{item.name}" for item in taken))
            samples.update(item.component for item in taken)
            skipped.update(skips)
            cpu += seconds + time.thread_time() - began
        return batch, BatchInfo(tuple(names), dict(samples), dict(skipped), lane_fill(batch), cpu)

    def get_state(self) -> dict[str, Any]:
        return {str(r): row.get_state() for r, row in self._rows.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        missing = [r for r in self._rows if str(r) not in state]
        if missing:
            raise DataError(
                f"the saved data state has no rows {missing}; it holds {len(state)} rows, so the run was started with "
                "another config.data.rows: resume with that number"
            )
        for r, row in self._rows.items():
            row.set_state(state[str(r)])


def lane_fill(batch: PackedBatch) -> dict[str, float]:
    """Share of real slots per lane (pixel lanes: pictures that are not all zero are counted through their slots)."""
    return {
        lane: real_slots(fields) / max(fields["sample"].size, 1) for lane, fields in batch.items() if "sample" in fields
    }


class Batches(grain.IterDataset):
    """The batches of some rows (all of them in a single process), with exact, small, per-row state."""

    def __init__(
        self,
        components: Sequence[Component],
        layout: Layout,
        budgets: Mapping[str, int],
        *,
        rows: int,
        own_rows: Sequence[int] | None = None,
        seed: int = 0,
        pool_size: int = 16,
        read_threads: int = 0,
        on_bad: str = "error",
        stages: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Builds the graph; reads nothing yet.

        Args:
          components: the mixture; weights are shares in samples and the pattern is exact over each row's stream.
          layout: the family's layout (`spec`, `lay_out`).
          budgets: slots per lane and row.
          rows: R, rows of the global batch.
          own_rows: rows that this process produces; all by default.
          seed: of shuffling and of every per-record generator.
          pool_size: samples a row chooses from.
          read_threads: reading threads per row; order and state do not depend on it.
          on_bad: "error" raises at the first unusable record, "skip" counts and logs it.
          stages: none, or mixtures that follow one another: {"steps": of this stage (not of the last one), "weights":
            {component: weight instead of its own}}. A step takes one pack of every row, so stages change at an exact step.
        """
        super().__init__()
        if on_bad not in ("error", "skip"):
            raise ConfigError(f"on_bad is '{on_bad}', must be 'error' or 'skip'")
        parts = _staged(components, stages)
        # A component that had its turn in an earlier stage goes on with another order, and not with the same records.
        turns = [[sum(p[i].weight > 0 for p in parts[:k]) for i in range(len(components))] for k in range(len(parts))]
        mixtures = []
        for k, stage in enumerate(parts):
            # Numbered with those of weight 0, so that switching one off leaves the others' streams as they are.
            active = [(i, part) for i, part in enumerate(stage) if part.weight > 0]
            if not active:
                raise DataError("the mixture is empty: every component has weight 0")
            seeds = [seed * 1009 + i + turns[k][i] * _NEXT_TURN for i, _ in active]
            streams = [component_stream(part, layout, budgets, s, on_bad) for s, (_, part) in zip(seeds, active)]
            mixtures.append((streams, [part.weight for _, part in active]))
        ends = tuple(np.cumsum([int(stage["steps"]) for stage in stages[:-1]]).tolist())
        self._rows = {}
        health = Health({part.name: len(part.source) for part in components})
        for r in range(rows) if own_rows is None else own_rows:
            mixed = [_mixed([stream[r::rows] for stream in streams], weights) for streams, weights in mixtures]
            self._rows[r] = RowDataset(mixed, layout.spec, budgets, pool_size, read_threads, ends, health)

    def __iter__(self) -> _BatchIterator:
        return _BatchIterator(self._rows)


_NEXT_TURN = 7_919_009  # apart from every seed * 1009 + number of a component that a person would choose


def _mixed(streams: Sequence[grain.MapDataset], weights: Sequence[float]) -> grain.MapDataset:
    return streams[0] if len(streams) == 1 else grain.MapDataset.mix(streams, weights=weights)


def _staged(components: Sequence[Component], stages: Sequence[Mapping[str, Any]]) -> list[list[Component]]:
    """The components of every stage with their weights there.

    Raises:
      DataError: a stage names no component, or only the last one may be without an end and another one is.
    """
    if not stages:
        return [list(components)]
    found = []
    for number, stage in enumerate(stages):
        where = f"config.data.stages[{number}]"
        last = number == len(stages) - 1
        if (
            set(stage) - {"steps"} != {"weights"}
            or ("steps" in stage) == last
            or (not last and int(stage["steps"]) < 1)
        ):
            raise DataError(f"{where}: needs weights and, unless it is the last, steps from 1 on; it has {dict(stage)}")
        weights = stage["weights"]
        if unknown := set(weights) - {part.name for part in components}:
            raise DataError(f"{where}: no {sorted(unknown)} in config.data.mixture")
        found.append([dataclasses.replace(part, weight=weights.get(part.name, part.weight)) for part in components])
    return found


def prefetched(batches: Batches, buffer: int) -> grain.IterDataset:
    """The same batches, made `buffer` ahead in a thread; state stays that of the batch last taken."""
    return grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=buffer)
