"""The training loop, read top to bottom: begin, then read, step, count, log, evaluate, save, and close.

What its words mean stands in files of their own: `start` (state, data, restore), `step` (the update), `meter` (clocks and
counters), `metrics` (fetched one step late), `finish` (summary and report).
"""

import time

import jax
from etils import epath
from ml_collections import ConfigDict

from sgt_jax.evaluation.schedule import Schedule
from sgt_jax.parallel import distributed, partitioning
from sgt_jax.training import finish, utilisation
from sgt_jax.training.log import RunLog
from sgt_jax.training.meter import Meter
from sgt_jax.training.metrics import Metrics
from sgt_jax.training.profile import Profile
from sgt_jax.training.start import Start, announce, begin
from sgt_jax.training.state import TrainState
from sgt_jax.training.subject import RunSubject


def train(config: ConfigDict, workdir: epath.PathLike) -> TrainState:
    """Runs or resumes the experiment of `config` in `workdir`; returns the final state.

    With several processes all call it, with the same arguments.

    Raises:
      NonFiniteError: config.max_nonfinite updates in a row were not finite.
      UserError: one line that names the culprit.
    """
    began, workdir = time.time(), epath.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    mesh = partitioning.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        start = begin(config, workdir, mesh)
        with RunLog(workdir, config.total_steps, jax.process_index() == 0, first_step=start.first) as log:
            announce(start, workdir, log)
            state = _run(config, workdir, start, log, began)
        start.batches.close()
    return state


def _run(config: ConfigDict, workdir: epath.Path, start: Start, log: RunLog, began: float) -> TrainState:
    task, state, batches = start.task, start.state, start.batches
    primary, total, opened = jax.process_index() == 0, config.total_steps, time.time()
    evaluate = Schedule(config.evaluators.to_dict(), RunSubject(task), workdir, log, primary=primary)
    if start.first == 0 and config.evaluate_at_start:
        evaluate(0, state.params)  # raw and averaged weights are the same
    meter = Meter(start.rows, utilisation.of_run(task))
    metrics = Metrics(start.rows, log, config.max_nonfinite)
    profile, stop, stopping = Profile(config.profile, workdir), distributed.StopRequest(), False

    for number in range(start.first, total):
        done = number + 1
        profile.before(number)
        with meter.waiting():
            host_batch, info = next(batches)
            batch = partitioning.to_devices(host_batch, start.mesh)
        data_state = batches.get_state()
        state, outcome = start.step(state, batch)
        metrics.put(done, outcome, info)
        meter.add(task.tokens(host_batch), info)
        stopping = stop.at(done)
        profile.after(done, state.params)

        evaluating = done % config.evaluate_every == 0 or done == total
        saving = done % config.checkpoint.every == 0 or done == total or stopping
        # At an evaluation or a save everything must be known exactly.
        if done % config.log_every == 0 or evaluating or saving or done == start.first + 1:
            log.scalars(done, metrics.latest() | meter.scalars() | {"skipped_updates": int(state.skipped)})
        with meter.paused():
            if evaluating and not stopping:
                evaluate(done, state.weights(config.evaluate_weights))
            # Saved after the evaluation: a kill in between repeats the evaluation rather than losing it.
            if saving:
                start.checkpoints.save(done, state._asdict(), data_state)
        if stopping:
            start.checkpoints.wait()
            log.message(f"stopped by signal at step {done}; the same command resumes")
            break

    start.checkpoints.close()
    jax.block_until_ready(state.params)
    if start.first == total:  # resumed after its end: nothing was trained, but the report is asked for
        evaluate(start.first, state.weights(config.evaluate_weights))
    if not stopping:
        finish.close(start, workdir, log, meter, evaluate, began, opened)
    return state
