"""How a run ends: what it took, and the report."""

import json
import time
from typing import Any

import jax
from etils import epath

from sgt_jax.evaluation.schedule import Schedule, collect_scores
from sgt_jax.reporting import run_page, run_results
from sgt_jax.training.log import RunLog
from sgt_jax.training.meter import Meter
from sgt_jax.training.start import Start


def close(
    start: Start, workdir: epath.Path, log: RunLog, meter: Meter, evaluations: Schedule, began: float, opened: float
) -> None:
    """Writes run.json and, if the config wants it, the report; one process does it.

    Args:
      began, opened: times at which the run began, and at which its loop did.
    """
    if jax.process_index() != 0:
        return
    config = start.task.config
    seconds = time.time() - began
    parts = {"start": opened - began, "training": meter.trained, "evaluation": evaluations.seconds}
    summary: dict[str, Any] = {
        "seconds": seconds,
        "parts": dict(parts, other=max(seconds - sum(parts.values()), 0.0)),
        "data_wait": meter.waited / max(meter.trained, 1e-9),
        "samples": dict(meter.samples),
        "skipped_records": dict(meter.skipped),
        "resumed_at": start.first,
    }
    (workdir / "run.json").write_text(json.dumps(summary, indent=2))
    if config.report:
        page = run_results.write(config, workdir, evaluations.results, summary, start.abstract.params)
        log.message(run_page.plain_table(collect_scores(workdir, config.evaluators.to_dict())))
        log.message(f"report: {page}")
