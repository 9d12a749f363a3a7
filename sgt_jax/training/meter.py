"""What the host counts between two lines of the log, summed over all processes when the line is written."""

import dataclasses
from collections import Counter
from typing import Any

from sgt_jax.parallel import distributed


@dataclasses.dataclass
class Window:
    """What the host counted since the last line of the log: of this process's rows, and of all in `totals`."""

    rows: list[int]
    steps: int = 0
    tokens: int = 0
    samples: Counter = dataclasses.field(default_factory=Counter)
    skipped: Counter = dataclasses.field(default_factory=Counter)
    fill: Counter = dataclasses.field(default_factory=Counter)

    def add(self, tokens: int, info: Any) -> None:
        """Counts one batch."""
        self.steps += 1
        self.tokens += tokens
        self.samples.update(info.samples)
        self.skipped.update(info.skipped)
        self.fill.update(info.fill)

    def totals(self) -> "Window":
        """All processes' counts together (of processes that read the same rows, one); fill is their mean."""
        # Keyed by rows, so that what several processes read is counted once.
        everyone = distributed.gather({str(self.rows): vars(self)})
        found = Window([])
        for part in everyone.values():
            found.rows += part["rows"]
            found.steps = part["steps"]
            found.tokens += part["tokens"]
            found.samples.update(part["samples"])
            found.skipped.update(part["skipped"])
            found.fill.update({lane: share * len(part["rows"]) for lane, share in part["fill"].items()})
        found.fill = Counter({lane: share / len(found.rows) for lane, share in found.fill.items()})
        return found
