"""Metrics of steps, fetched one step late, and what happens when they are not finite."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from sgt_jax.data.pipeline import BatchInfo
from sgt_jax.parallel import distributed
from sgt_jax.training.log import RunLog
from sgt_jax.training.step import NonFiniteError


class Metrics:
    """Fetches the metrics of every step while the device works on the next one; counts updates that were not finite."""

    def __init__(self, rows: list[int], log: RunLog, most_nonfinite: int) -> None:
        """`rows` are this process's; after `most_nonfinite` such updates in a row the run ends."""
        self._rows, self._log, self._most = rows, log, most_nonfinite
        self._pending: tuple[int, Mapping[str, jax.Array], BatchInfo] | None = None
        self._bad_in_a_row = 0

    def put(self, step: int, metrics: Mapping[str, jax.Array], info: BatchInfo) -> None:
        """Keeps the metrics of a step that was just started, and looks at those of the step before.

        Raises:
          NonFiniteError: too many updates in a row were not finite.
        """
        previous, self._pending = self._pending, (step, metrics, info)
        if previous:
            self._fetch(*previous)

    def latest(self) -> dict[str, float]:
        """The scalars of the last step; waits for it. Raises as `put` does."""
        pending, self._pending = self._pending, None
        return self._fetch(*pending) if pending else {}

    def _fetch(self, step: int, metrics: Mapping[str, jax.Array], info: BatchInfo) -> dict[str, float]:
        values = jax.device_get(metrics)
        if values["nonfinite"]:
            self._bad_in_a_row += 1
            names = suspects(values, info, self._rows)
            self._log.message(f"step {step}: loss or gradient not finite, update skipped; examples: {names}")
            if self._bad_in_a_row >= self._most:
                raise NonFiniteError(
                    f"{self._bad_in_a_row} updates in a row were not finite, the last at step {step}; "
                    f"examples: {', '.join(names)}"
                )
        else:
            self._bad_in_a_row = 0
        return {name: float(value) for name, value in values.items() if value.ndim == 0}


def suspects(values: Mapping[str, Any], info: BatchInfo, rows: list[int]) -> tuple[str, ...]:
    """Names of the samples in the rows whose own loss is not finite; all samples if it cannot be narrowed down."""
    gathered = distributed.gather(dict(zip(map(str, rows), info.names)))
    names = {int(row): of_row for row, of_row in gathered.items()}
    per_row = values.get("row_loss")
    if per_row is not None and per_row.shape[0] == len(names):
        bad = [row for row, loss in enumerate(per_row) if not np.isfinite(loss)]
        if bad:
            return tuple(name for row in bad for name in names[row])
    return tuple(name for row in sorted(names) for name in names[row])
