"""Adds scores to the log of a run from another process, which evaluates its checkpoints while it trains on."""

import json
import math
import os
from collections.abc import Mapping

import tensorboardX
from etils import epath

from sgt_jax.data.stored.atomic import is_remote
from sgt_jax.errors import ConfigError
from sgt_jax.reporting.metrics import METRICS, read_metrics
from sgt_jax.training.log import EVENTS

KIND = "benchmarks"


def append(workdir: epath.PathLike, step: int, values: Mapping[str, float]) -> None:
    """Appends one line of kind "benchmarks" to `metrics.jsonl`, and the same numbers to TensorBoard.

    The line is written by one call, so it never mixes with a line of the run itself. A run that resumes from an earlier
    checkpoint drops it like all that came later.

    Raises:
      ConfigError: the work directory is in an object store, which cannot append.
    """
    if is_remote(epath.Path(workdir)):
        raise ConfigError(f"{workdir}: scores cannot be added to a log in an object store; give --out and no --follow")
    lines = read_metrics(workdir)
    if any(line["kind"] == KIND and line["step"] == step and set(values) <= set(line) for line in lines):
        return
    seconds = max((line["seconds"] for line in lines), default=0.0)
    numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}
    text = json.dumps({"step": step, "kind": KIND, "seconds": seconds, **numbers}, allow_nan=False) + "\n"
    handle = os.open(os.path.join(workdir, METRICS), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
    with tensorboardX.SummaryWriter(os.path.join(workdir, EVENTS), filename_suffix=f".{KIND}{step}") as events:
        for name, value in numbers.items():
            if value is not None:
                events.add_scalar(f"{KIND}/{name}", value, step)
