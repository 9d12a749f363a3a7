"""How a run begins: checks, shapes, shardings, and a state that is created in place or read from a checkpoint."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from clu import parameter_overview
from etils import epath
from ml_collections import ConfigDict

from sgt_jax import trees
from sgt_jax.checkpoints.runs import RunCheckpoints
from sgt_jax.data.pipeline import prefetched
from sgt_jax.data.proxies import PROXIES
from sgt_jax.data.stored import atomic
from sgt_jax.errors import ConfigError
from sgt_jax.evaluation.schedule import Beside
from sgt_jax.models.family import Params
from sgt_jax.models.stack import check_remat
from sgt_jax.parallel import distributed, partitioning
from sgt_jax.training import adapter, beside, checks, experiment, optimizer, resuming
from sgt_jax.training import state as state_lib
from sgt_jax.training.experiment import Experiment
from sgt_jax.training.log import RunLog
from sgt_jax.training.meter import TOTALS, Totals
from sgt_jax.training.state import TrainState
from sgt_jax.training.step import Step, make_step


class Start(NamedTuple):
    """What a run begins with.

    Attributes:
      task: its parts.
      mesh: of its devices.
      state: after `first` steps.
      first: how many were done before.
      origin: where the weights of a new run came from; "" when it was resumed.
      step: the update, to be compiled.
      batches: stream of (host batch, BatchInfo) with get_state and close, at the right place.
      rows: those that this process reads.
      checkpoints: of the work directory.
      abstract: the state as shapes.
      totals: what earlier processes of this run counted.
      notes: what the log should say.
      holds: what every checkpoint says about its adapters; {} where the model itself is trained.
      other: the run whose scores will stand beside this one's.
    """

    task: Experiment
    mesh: jax.sharding.Mesh
    state: TrainState
    first: int
    origin: str
    step: Step
    batches: Any
    rows: list[int]
    checkpoints: RunCheckpoints
    abstract: TrainState
    totals: Totals = Totals()
    notes: tuple[str, ...] = ()
    holds: Mapping[str, Any] = {}
    other: Beside | None = None

    def save(self, done: int, state: TrainState, data_state: dict[str, Any]) -> None:
        """Starts a save of the state after `done` steps, with the state of this process's data."""
        holds = {adapter.DATA: self.holds} if self.holds and jax.process_index() == 0 else {}
        self.checkpoints.save(done, adapter.kept(state, self.task.config), data_state | holds)


def begin(config: ConfigDict, workdir: epath.Path, mesh: jax.sharding.Mesh) -> Start:
    """Builds everything, in a new work directory or from its newest checkpoint.

    Raises:
      UserError: config, data, mesh and checkpoint do not fit together.
    """
    primary = jax.process_index() == 0
    checkpoints = RunCheckpoints(workdir, keep=config.checkpoint.keep)
    changed = _compare(config, workdir, checkpoints.latest(), primary)
    partitioning.check_rows(config.data.rows, mesh, config.accumulate)
    checks.check_proxies(config.to_dict(), PROXIES)
    task = experiment.build(config)
    other, apart = beside.find(config, resuming.settings(config, task.model_config.to_dict()))
    for name, sizes in task.divisible().items():
        partitioning.check_divides(mesh, name, sizes)
    check_remat(task.model_config.remat, jax.local_devices()[0])
    tx = optimizer.make_optimizer(config)

    # Shapes first, then created in place with its shardings, so no device ever holds more than its share.
    def create(params: Params) -> TrainState:
        return state_lib.create(params, tx, adapter.freeze(config), config.ema_decay > 0)

    key = jax.random.key(config.seed)
    shapes = jax.eval_shape(lambda key: create(task.init(key)), key)
    shardings = partitioning.tree_shardings(shapes, mesh)
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    checkpoints.check_space(adapter.kept(abstract, config))  # before anything is compiled
    rows = partitioning.own_rows(config.data.rows, mesh)
    batches = iter(prefetched(task.batches(rows), config.data.prefetch) if config.data.prefetch else task.batches(rows))
    notes = [apart] if apart else []
    totals = Totals()
    if checkpoints.latest() is None:
        params, origin = task.initial_params(key, shardings.params)
        holds = adapter.identity(task.adaptation, params)
        state = jax.jit(create, out_shardings=shardings, donate_argnums=0)(params)
    else:
        state, data_state, holds = _restored(task, checkpoints, abstract, key)
        origin = ""
        totals = Totals.of_checkpoint(data_state.pop(TOTALS, None), workdir, int(state.step))
        if "data.rows" in changed:
            notes.append("config.data.rows has changed: the data begin anew, at the start of their order")
        else:
            batches.set_state(data_state)
    # Metrics lie whole on every device, so that every process can read them.
    whole = jax.NamedSharding(mesh, jax.P())
    update = make_step(task.loss, tx, config, task.adaptation)
    step = Step(jax.jit(update, donate_argnums=0, out_shardings=(shardings, whole)))
    first = int(state.step)
    if primary and (note := resuming.clean(workdir, first)):
        notes.append(note)
    if changed:
        notes.append(
            f"changed since the run began, as config.resume says: {', '.join(changed)} (see {resuming.CHANGES})"
        )
    return Start(
        task, mesh, state, first, origin, step, batches, rows, checkpoints, abstract, totals, tuple(notes), holds, other
    )  # fmt: skip


def _restored(
    task: Experiment, checkpoints: RunCheckpoints, abstract: TrainState, key: jax.Array
) -> tuple[TrainState, dict[str, Any], dict[str, Any]]:
    """The newest checkpoint: (state, state of the data, what it says of its adapters); their base is loaded again.

    Raises:
      CheckpointError: it cannot be read, or holds something else than this config trains, or adapters of another base.
    """
    config, where = task.config, checkpoints.folder / str(checkpoints.latest())
    said = checkpoints.restore_data().get(adapter.DATA, {})
    adapter.check_kind(said, task.adaptation, where)
    saved, data_state = checkpoints.restore(adapter.kept(abstract, config))
    data_state.pop(adapter.DATA, None)
    if task.adaptation is not None:
        params, _ = task.initial_params(key, jax.tree.map(lambda x: x.sharding, abstract.params))
        base = config.init_from or f"the base that config.seed={config.seed} makes"
        adapter.check_base(said, adapter.identity(task.adaptation, params), where, base)
        saved["params"] = trees.merge(saved["params"], params)
    return TrainState(**saved), data_state, said


def _compare(config: ConfigDict, workdir: epath.Path, step: int | None, primary: bool) -> list[str]:
    """Compares the config of a run that resumes with its first one, before anything is built; see `resuming.check`."""
    if config.get("resume", "") not in ("", "changed"):
        raise ConfigError(f"config.resume='{config.resume}': choose '' or 'changed'")
    if step is None:
        return []
    settings = resuming.settings(config, experiment.model_config(config).to_dict())
    try:
        changed = resuming.check(settings, config.get("resume", ""), workdir, step, primary)
    finally:
        distributed.meet("compared")  # before any process reads what the first one writes
    return changed


def announce(start: Start, workdir: epath.Path, log: RunLog) -> None:
    """Says what runs, and writes down what a new run is."""
    config, model = start.task.config, start.task.model_config
    if start.origin and jax.process_index() == 0:
        settings = resuming.settings(config, model.to_dict())
        atomic.write_text(workdir / resuming.CONFIG, json.dumps(settings, indent=2))
        overview = parameter_overview.get_parameter_overview(start.abstract.params, include_stats=False, max_lines=400)
        atomic.write_text(workdir / "parameters.txt", overview)
    log.message(_opening(start))
    for note in start.notes:
        log.message(note)
    if start.origin:
        log.message(start.origin)


def _opening(start: Start) -> str:
    config, params, devices = start.task.config, start.abstract.params, start.mesh.devices
    count = sum(x.size for x in jax.tree.leaves(params))
    trained = sum(x.size for x in jax.tree.leaves(trees.split_trainable(params, adapter.freeze(config))[0]))
    sizes = " x ".join(f"{axis} {n}" for axis, n in start.mesh.shape.items() if n > 1) or "1"
    how = "starting" if start.origin else f"resuming at step {start.first}"
    return (
        f"{config.name}: {how} of {config.total_steps}; {count / 1e6:.2f} M parameters, {trained / 1e6:.2f} M trained; "
        f"{len(devices.flat)} {devices.flat[0].platform} device(s), mesh {sizes}; {config.data.rows} rows a step"
    )
