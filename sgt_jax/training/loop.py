"""The training loop, read top to bottom: mesh, state, data, restore, step, log, evaluate, save."""

import json
import time
from collections import Counter
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from etils import epath

from sgt_jax import trees
from sgt_jax.checkpoints.runs import RunCheckpoints
from sgt_jax.data.pipeline import prefetched
from sgt_jax.evaluation import schedule as evaluation_schedule
from sgt_jax.models.stack import check_remat
from sgt_jax.parallel import distributed, partitioning
from sgt_jax.reporting import run_page, run_results
from sgt_jax.training import experiment, optimizer, utilisation
from sgt_jax.training import state as state_lib
from sgt_jax.training.log import RunLog
from sgt_jax.training.meter import Window
from sgt_jax.training.state import TrainState
from sgt_jax.training.step import NonFiniteError, make_step
from sgt_jax.training.subject import RunSubject


def train(config: Any, workdir: str) -> TrainState:
    """Runs or resumes the experiment of `config` in `workdir`; returns the final state.

    With several processes all call it, with the same arguments.

    Raises:
      NonFiniteError: config.max_nonfinite updates in a row were not finite.
      DataError, CheckpointError, ValueError: one line that names the culprit.
    """
    mesh = partitioning.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        return _train(config, epath.Path(workdir), mesh)


def _train(config: Any, workdir: epath.Path, mesh: Any) -> TrainState:
    workdir.mkdir(parents=True, exist_ok=True)
    primary = jax.process_index() == 0
    started = time.time()

    partitioning.check_rows(config.data.rows, mesh, config.accumulate)
    task = experiment.build(config)
    for name, sizes in task.divisible().items():
        partitioning.check_divides(mesh, name, sizes)
    check_remat(task.model_config.remat, jax.local_devices()[0])
    tx = optimizer.make_optimizer(config)

    # State: shapes first, then created in place with its shardings, so no device ever holds more than its share.
    def create(params: Any) -> TrainState:
        return state_lib.create(params, tx, tuple(config.freeze), config.ema_decay > 0)

    key = jax.random.key(config.seed)
    shapes = jax.eval_shape(lambda key: create(task.init(key)), key)
    shardings = partitioning.tree_shardings(shapes, mesh)
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    rows = partitioning.own_rows(config.data.rows, mesh)
    batches = iter(prefetched(task.batches(rows), config.data.prefetch))
    checkpoints = RunCheckpoints(workdir, keep=config.checkpoint.keep)

    if checkpoints.latest() is None:
        params, origin = task.initial_params(key, shardings.params)
        state = jax.jit(create, out_shardings=shardings, donate_argnums=0)(params)
        del params
        resumed = False
    else:
        fields, data_state = checkpoints.restore(abstract._asdict())
        state = TrainState(**fields)
        batches.set_state(data_state)
        resumed = True
    first = int(state.step)

    log = RunLog(workdir, config.total_steps, primary, first_step=first)
    with log:
        if primary and not resumed:
            # With the model as it is: its sizes may have come from the checkpoint that the run starts from.
            settings = json.loads(config.to_json_best_effort()) | {"model": task.model_config.to_dict()}
            (workdir / "config.json").write_text(json.dumps(settings, indent=2))
            overview = parameter_overview.get_parameter_overview(abstract.params, include_stats=False, max_lines=400)
            (workdir / "parameters.txt").write_text(overview)
        log.message(_opening(config, mesh, abstract, first, resumed))
        if not resumed:
            log.message(origin)
        run_evaluations = evaluation_schedule.Schedule(
            config.evaluators.to_dict(), RunSubject(task), workdir, log, primary=primary
        )
        # Metrics lie whole on every device, so that every process can read them.
        whole = jax.NamedSharding(mesh, jax.P())
        step_fn = jax.jit(make_step(task.loss, tx, config), donate_argnums=0, out_shardings=(shardings, whole))
        compiled = None

        work = utilisation.of_run(task)
        stop = distributed.StopRequest()
        waited = window_waited = 0.0
        window_start, window = time.time(), Window(rows)
        skipped_records: Counter = Counter()
        stopping = False
        bad_in_a_row: list[tuple[str, ...]] = []
        pending: tuple[int, dict, Any] | None = None
        realised: Counter = Counter()

        def finish(pending: tuple[int, dict, Any]) -> dict[str, float]:
            # Metrics are fetched one step late, so the device always has the next step to work on.
            number, metrics, info = pending
            values = {k: v for k, v in jax.device_get(metrics).items()}
            if values["nonfinite"]:
                bad_in_a_row.append(_suspects(values, info, rows))
                log.message(f"step {number}: loss or gradient not finite, update skipped; examples: {bad_in_a_row[-1]}")
                if len(bad_in_a_row) >= config.max_nonfinite:
                    raise NonFiniteError(
                        f"{len(bad_in_a_row)} updates in a row were not finite, the last at step {number}; "
                        f"examples: {', '.join(bad_in_a_row[-1])}"
                    )
            else:
                bad_in_a_row.clear()
            return {k: float(v) for k, v in values.items() if v.ndim == 0}

        loop_started, trained = time.time(), 0.0
        if first == 0 and config.get("evaluate_at_start", True):
            run_evaluations(0, state.params)  # raw and averaged weights are the same
        window_start = time.time()
        data_state = batches.get_state()
        for number in range(first, config.total_steps):
            if config.profile and number == config.profile[0]:
                jax.profiler.start_trace(str(workdir / "profile"))
            before = time.time()
            host_batch, info = next(batches)
            batch = partitioning.to_devices(host_batch, mesh)
            window_waited += time.time() - before
            data_state = batches.get_state()
            if compiled is None:
                # Once: it refuses other shapes. Nobody starts before all have it, as collectives wait 30 s on some platforms.
                compiled = step_fn.lower(state, batch).compile()
                distributed.meet("compiled")
            state, metrics = compiled(state, batch)
            previous, pending = pending, (number + 1, metrics, info)
            values = finish(previous) if previous else {}

            window.add(task.tokens(host_batch), info)
            done = number + 1
            stopping = stop.at(done)
            if config.profile and done == sum(config.profile):
                jax.block_until_ready(state.params)
                jax.profiler.stop_trace()

            # Steps at which everything must be known exactly: fetch this step's metrics, too.
            evaluate = done % config.evaluate_every == 0 or done == config.total_steps
            save = done % config.checkpoint.every == 0 or done == config.total_steps or stopping
            if done % config.log_every == 0 or evaluate or save or done == first + 1:
                values, pending = finish(pending), None
                elapsed = time.time() - window_start
                waited += window_waited
                trained += elapsed
                totals = window.totals()
                realised.update(totals.samples)
                skipped_records.update(totals.skipped)
                fill = {lane: total / totals.steps for lane, total in totals.fill.items()}
                scalars = dict(
                    values,
                    **work.scalars(fill, elapsed / totals.steps),
                    steps_per_second=totals.steps / elapsed,
                    tokens_per_second=totals.tokens / elapsed,
                    data_wait=window_waited / elapsed,
                    skipped_updates=int(state.skipped),
                    skipped_records=sum(skipped_records.values()),
                    **{f"fill/{lane}": share for lane, share in fill.items()},
                    **{f"samples/{name}": n / totals.steps for name, n in totals.samples.items()},
                )
                log.scalars(done, scalars)
                window_waited, window = 0.0, Window(rows)
                window_start = time.time()
            if evaluate and not stopping:
                run_evaluations(done, state.weights(config.evaluate_weights))
            # Saved after the evaluation: a kill in between repeats the evaluation rather than losing it.
            if save:
                checkpoints.save(done, state._asdict(), data_state)
            if stopping:
                checkpoints.wait()
                log.message(f"stopped by signal at step {done}; the same command resumes")
                break
            window_start = time.time() if evaluate or save else window_start
        checkpoints.close()
        jax.block_until_ready(state.params)
        if first == config.total_steps:  # resumed after its end: nothing was trained, but the report is asked for
            run_evaluations(first, state.weights(config.evaluate_weights))
        if primary and not stopping:
            seconds = time.time() - started
            parts = {"start": loop_started - started, "training": trained, "evaluation": run_evaluations.seconds}
            summary = {
                "seconds": seconds,
                "parts": dict(parts, other=max(seconds - sum(parts.values()), 0.0)),
                "data_wait": waited / max(trained, 1e-9),
                "samples": dict(realised),
                "skipped_records": dict(skipped_records),
                "resumed_at": first,
            }
            (workdir / "run.json").write_text(json.dumps(summary, indent=2))
            if config.report:
                page = run_results.write(config, workdir, run_evaluations.results, summary, abstract.params)
                log.message(
                    run_page.plain_table(evaluation_schedule.collect_scores(workdir, config.evaluators.to_dict()))
                )
                log.message(f"report: {page}")
    batches.close()
    return state


def _suspects(values: dict[str, Any], info: Any, rows: list[int]) -> tuple[str, ...]:
    """Names of the samples in the rows whose own loss is not finite; all samples if it cannot be narrowed down."""
    names = {int(row): found for row, found in distributed.gather(dict(zip(map(str, rows), info.names))).items()}
    per_row = values.get("row_loss")
    if per_row is not None and per_row.shape[0] == len(names):
        bad = [row for row, loss in enumerate(per_row) if not np.isfinite(loss)]
        if bad:
            return tuple(name for row in bad for name in names[row])
    return tuple(name for row in sorted(names) for name in names[row])


def _opening(config: Any, mesh: Any, abstract: TrainState, first: int, resumed: bool) -> str:
    count = sum(x.size for x in jax.tree.leaves(abstract.params))
    trained = sum(x.size for x in jax.tree.leaves(trees.split_trainable(abstract.params, tuple(config.freeze))[0]))
    sizes = " x ".join(f"{axis} {n}" for axis, n in mesh.shape.items() if n > 1) or "1"
    start = f"resuming at step {first}" if resumed else "starting"
    return (
        f"{config.name}: {start} of {config.total_steps}; {count / 1e6:.2f} M parameters, {trained / 1e6:.2f} M trained; "
        f"{len(mesh.devices.flat)} {mesh.devices.flat[0].platform} device(s), mesh {sizes}; {config.data.rows} rows a step"
    )
