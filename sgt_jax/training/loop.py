"""The training loop, read top to bottom: begin, then read, step, count, log, evaluate, save, and close.

What its words mean stands in files of their own: `start` (state, data, restore), `step` (the update), `meter` (clocks and
counters), `metrics` (fetched one step late), `finish` (summary and report).
"""

import contextlib
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
from etils import epath
from ml_collections import ConfigDict

from sgt_jax.data.stored.places import place
from sgt_jax.errors import ConfigError
from sgt_jax.evaluation.schedule import Schedule
from sgt_jax.parallel import distributed, partitioning, progress
from sgt_jax.parallel.stopping import Interrupted
from sgt_jax.reporting.metrics import read_metrics
from sgt_jax.training import checks, finish, utilisation
from sgt_jax.training.lock import Lock, LockedError
from sgt_jax.training.log import RunLog
from sgt_jax.training.meter import TOTALS, Meter
from sgt_jax.training.metrics import Metrics
from sgt_jax.training.profile import Profile
from sgt_jax.training.start import Start, announce, begin
from sgt_jax.training.state import TrainState
from sgt_jax.training.subject import RunSubject
from sgt_jax.training.terminal import COMPILING, STEP


class Ended(NamedTuple):
    """How a call of `run` ended.

    Attributes:
      state: the newest one.
      finished: False where a signal stopped it, be it in the evaluation after the last step; the same call continues.
    """

    state: TrainState
    finished: bool


def train(config: ConfigDict, workdir: epath.PathLike, steal_lock: bool = False) -> TrainState:
    """`run`, for callers who send no signals; returns the final state."""
    return run(config, workdir, steal_lock).state


def run(config: ConfigDict, workdir: epath.PathLike, steal_lock: bool = False) -> Ended:
    """Runs or resumes the experiment of `config` in `workdir`.

    With several processes all call it, with the same arguments.

    Args:
      steal_lock: take the work directory from a run that holds its lock.

    Raises:
      NonFiniteError: config.max_nonfinite updates in a row were not finite.
      LockedError: another run works in this directory.
      UserError: one line that names the culprit.
    """
    began = time.time()
    checks.check(config)
    workdir = _made(place(workdir))
    mesh = partitioning.make_mesh(config.mesh)
    with distributed.StopRequest() as stop, _alone_in(workdir, steal_lock) as lock, jax.set_mesh(mesh):
        start = begin(config, workdir, mesh)
        # Whatever ends the run, a save under way is waited for: it is the newest that the run will have.
        with start.checkpoints, contextlib.closing(start.batches):
            with RunLog(workdir, config.total_steps, jax.process_index() == 0, first_step=start.first) as log:
                announce(start, workdir, log)
                return _run(config, workdir, start, log, stop, lock, began)


def _made(workdir: epath.Path) -> epath.Path:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "a file is in its place" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise ConfigError(f"--workdir={workdir}: cannot be made ({why}); choose another folder") from None
    return workdir


@contextlib.contextmanager
def _alone_in(workdir: epath.Path, steal: bool) -> Iterator[Lock | None]:
    """Holds the lock of the work directory; the first process does it, and all end together if it is refused."""
    lock, refused = None, ""
    if jax.process_index() == 0:
        lock = Lock(workdir)
        try:
            lock.acquire(steal)
        except LockedError as error:
            lock, refused = None, str(error)
    try:
        if jax.process_count() > 1:
            refused = distributed.gather({"lock": refused} if jax.process_index() == 0 else {})["lock"]
        if refused:
            raise LockedError(refused)
        yield lock
    finally:
        if lock is not None:
            lock.release()


def _run(
    config: ConfigDict, workdir: epath.Path, start: Start, log: RunLog, stop: distributed.StopRequest,
    lock: Lock | None, began: float,
) -> Ended:  # fmt: skip
    task, state, batches = start.task, start.state, start.batches
    primary, total, opened = jax.process_index() == 0, config.total_steps, time.time()
    evaluate = Schedule(config.evaluators.to_dict(), RunSubject(task), workdir, log, primary=primary)
    if start.first == 0 and config.evaluate_at_start:
        evaluate(0, state.params)  # raw and averaged weights are the same
    elif _owed(config, workdir, start.first):
        evaluate(start.first, state.weights(config.evaluate_weights))
    meter = Meter(start.rows, utilisation.of_run(task))
    metrics = Metrics(start.rows, log, config.max_nonfinite)
    profile, stopping = Profile(config.profile, workdir), False

    for number in range(start.first, total):
        done = number + 1
        profile.before(number)
        with meter.waiting():
            host_batch, info = next(batches)
            batch = partitioning.to_devices(host_batch, start.mesh)
        data_state = batches.get_state()
        progress.begin(COMPILING if number == start.first else STEP)
        state, outcome = start.step(state, batch)
        stop.anything_to_lose = True
        metrics.put(done, outcome, info)
        meter.add(task.tokens(host_batch), info)
        stopping = stop.at(done)
        profile.after(done, state.params)
        if lock is not None:
            lock.check()

        evaluating = _due(done, config.evaluate_every) or done == total
        saving = _due(done, config.checkpoint.every) or done == total or stopping
        # At an evaluation or a save everything must be known exactly.
        if _due(done, config.log_every) or evaluating or saving or done == start.first + 1:
            log.scalars(done, metrics.latest() | meter.scalars() | {"skipped_updates": int(state.skipped)})
        with meter.paused():
            if evaluating and not stopping:
                try:
                    with stop.interrupting():
                        evaluate(done, state.weights(config.evaluate_weights))
                except Interrupted:  # the run that resumes evaluates this step first
                    saving = stopping = True
            # Saved after the evaluation: a kill in between repeats the evaluation rather than losing it.
            if saving:
                progress.begin("saving")
                totals = finish.totals_so_far(start, meter, evaluate, began, opened)
                start.save(done, state, data_state | ({TOTALS: vars(totals)} if primary else {}))
        if stopping:
            start.checkpoints.wait()
            log.message(f"stopped by signal at step {done}; the same command resumes")
            break

    progress.begin("finishing the save")
    start.checkpoints.wait()
    jax.block_until_ready(state.params)
    if start.first == total:  # resumed after its end: nothing was trained, but the report is asked for
        evaluate(start.first, state.weights(config.evaluate_weights))
    if not stopping:
        finish.close(start, workdir, log, meter, evaluate, began, opened)
    return Ended(state, not stopping)


def _due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps does at this one; 0 switches it off."""
    return bool(every) and step % every == 0


def _owed(config: ConfigDict, workdir: epath.Path, first: int) -> bool:
    """Whether a run that resumes must make up for the evaluation of the step at which it was stopped."""
    if not _due(first, config.evaluate_every) or first in (0, config.total_steps):
        return False
    return all(line["step"] != first for line in read_metrics(workdir, kind="eval"))
