"""All clocks and counters of the loop: what the host counts between two lines of the log, summed over all processes."""

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from sgt_jax.data.pipeline import BatchInfo
from sgt_jax.parallel import distributed
from sgt_jax.reporting.metrics import realised_samples
from sgt_jax.training.utilisation import Utilisation

TOTALS = "totals"  # name in a checkpoint, beside the rows


@dataclasses.dataclass
class Window:
    """What the host counted since the last line of the log: of this process's rows, and of all in `totals`."""

    rows: list[int]
    steps: int = 0
    tokens: int = 0
    samples: Counter = dataclasses.field(default_factory=Counter)
    skipped: Counter = dataclasses.field(default_factory=Counter)
    fill: Counter = dataclasses.field(default_factory=Counter)
    cpu: float = 0.0  # seconds of processor time that the data took

    def add(self, tokens: int, info: BatchInfo) -> None:
        """Counts one batch."""
        self.steps += 1
        self.tokens += tokens
        self.samples.update(info.samples)
        self.skipped.update(info.skipped)
        self.fill.update(info.fill)
        self.cpu += info.cpu

    def totals(self) -> "Window":
        """All processes' counts together (of processes that read the same rows, one); fill is their mean."""
        # Keyed by rows, so that what several processes read is counted once.
        everyone = distributed.gather({str(self.rows): vars(self)})
        total = Window([])
        for part in everyone.values():
            total.rows += part["rows"]
            total.steps = part["steps"]
            total.tokens += part["tokens"]
            total.cpu += part["cpu"]
            total.samples.update(part["samples"])
            total.skipped.update(part["skipped"])
            total.fill.update({lane: share * len(part["rows"]) for lane, share in part["fill"].items()})
        total.fill = Counter({lane: share / len(total.rows) for lane, share in total.fill.items()})
        return total


@dataclasses.dataclass(frozen=True)
class Totals:
    """What a run has counted, over all processes that worked on it one after the other; a checkpoint carries it.

    Attributes:
      seconds: in all; start, trained, evaluation, waited: of these, as run.json says.
      samples, skipped: by part of the mixture, and by reason.
    """

    seconds: float = 0.0
    start: float = 0.0
    trained: float = 0.0
    evaluation: float = 0.0
    waited: float = 0.0
    samples: Mapping[str, int] = dataclasses.field(default_factory=dict)
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_checkpoint(cls, found: Mapping[str, Any] | None, workdir: epath.Path, step: int) -> "Totals":
        """Those of a checkpoint; of one from before there were any, what the log says up to its step."""
        if found is not None:
            return cls(**found)
        return cls(samples=realised_samples(workdir, step))

    def __add__(self, other: "Totals") -> "Totals":
        def add(a: Any, b: Any) -> Any:
            return dict(Counter(a) + Counter(b)) if isinstance(a, Mapping) else a + b

        return Totals(**{f.name: add(getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)})


class Meter:
    """Clocks and counters of a run; each call of `scalars` closes a window.

    Attributes:
      trained: seconds of training so far, without evaluations and saves.
      waited: of these, seconds in which the host waited for data.
      samples, skipped: by part of the mixture, and by reason, since the run was started or resumed.
    """

    def __init__(self, rows: list[int], work: Utilisation) -> None:
        self._rows, self._work = rows, work
        self.trained = self.waited = 0.0
        self.samples: Counter = Counter()
        self.skipped: Counter = Counter()
        self._open()

    def _open(self) -> None:
        self._window, self._window_waited, self._since = Window(self._rows), 0.0, time.time()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, the loop waits for data."""
        began = time.time()
        yield
        self._window_waited += time.time() - began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, nothing is trained."""
        began = time.time()
        yield
        self._since += time.time() - began

    def add(self, tokens: int, info: BatchInfo) -> None:
        """Counts one batch."""
        self._window.add(tokens, info)

    def scalars(self) -> dict[str, float]:
        """What the log says of the steps since the last call, of all processes; all of them must call it."""
        elapsed, totals = time.time() - self._since, self._window.totals()
        self.trained += elapsed
        self.waited += self._window_waited
        self.samples.update(totals.samples)
        self.skipped.update(totals.skipped)
        fill = {lane: total / totals.steps for lane, total in totals.fill.items()}
        values = {
            **self._work.scalars(fill, elapsed / totals.steps),
            "steps_per_second": totals.steps / elapsed,
            "tokens_per_second": totals.tokens / elapsed,
            "data_wait": self._window_waited / elapsed,
            # A batch made ahead costs no waiting, but the cores that it is made on.
            "data_cpu": totals.cpu / totals.steps,
            "skipped_records": sum(self.skipped.values()),
            **{f"fill/{lane}": share for lane, share in fill.items()},
            **{f"samples/{name}": n / totals.steps for name, n in totals.samples.items()},
        }
        self._open()
        return values
