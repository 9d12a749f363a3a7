"""How a run ends: what it took, and the report."""

import json
import time
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from sgt_jax.data.stored import atomic
from sgt_jax.data.stored.atomic import is_remote
from sgt_jax.evaluation.schedule import Schedule, collect_scores
from sgt_jax.parallel import progress
from sgt_jax.reporting import run_page, run_results
from sgt_jax.training import publishing
from sgt_jax.training.log import RunLog
from sgt_jax.training.meter import Meter, Totals
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
    config, path = start.task.config, workdir / "run.json"
    if start.first == config.total_steps and start.first and (kept := _kept(path)):
        summary = kept  # nothing was trained since
    else:
        summary = _summary(totals_so_far(start, meter, evaluations, began, opened), start.first)
        atomic.write_text(path, json.dumps(summary, indent=2))
    if start.task.adaptation is not None:
        log.message(_adapter(config, workdir))
    if config.report:
        progress.begin("writing the report")
        page = run_results.write(config, workdir, evaluations.results, summary, start.abstract.params, start.other)
        if scores := collect_scores(workdir, config.evaluators.to_dict(), start.other):
            log.message(run_page.plain_table(scores))
        log.message(f"report: {page}")


def _adapter(config: ConfigDict, workdir: epath.Path) -> str:
    """Writes the last checkpoint's adapters for other tools to load; a text that says so."""
    if is_remote(workdir):
        return f"adapters: python -m sgt_jax convert {workdir} OUT --adapter writes them for other tools"
    out = workdir / publishing.FOLDER
    publishing.publish_adapter(workdir, out, "ema" if config.ema_decay else "params")
    return f"adapters: {out}"


def totals_so_far(start: Start, meter: Meter, evaluations: Schedule, began: float, opened: float) -> Totals:
    """What all processes of the run have counted until now; arguments as in `close`."""
    here = Totals(
        time.time() - began, opened - began, meter.trained, evaluations.seconds, meter.waited,
        dict(meter.samples), dict(meter.skipped),
    )  # fmt: skip
    return start.totals + here


def _summary(totals: Totals, first: int) -> dict[str, Any]:
    parts = {"start": totals.start, "training": totals.trained, "evaluation": totals.evaluation}
    return {
        "seconds": totals.seconds,
        "parts": dict(parts, other=max(totals.seconds - sum(parts.values()), 0.0)),
        "data_wait": totals.waited / max(totals.trained, 1e-9),
        "samples": dict(totals.samples),
        "skipped_records": dict(totals.skipped),
        "resumed_at": first,
    }


def _kept(path: epath.Path) -> dict[str, Any] | None:
    """The summary of the run as it ended before; None if it is absent or damaged."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
