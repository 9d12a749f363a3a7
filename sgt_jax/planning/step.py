"""The training step of a config as shapes and shardings only: what `plan` compiles and counts. Allocates nothing.

It is the step that training runs (`training.step.make_step` under the table of `parallel/partitioning.py`), for devices that
need not exist.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jax.sharding import AbstractMesh, Mesh
from ml_collections import ConfigDict

from sgt_jax.data.layouts import Layout
from sgt_jax.models.family import Costs, ModelConfig
from sgt_jax.parallel import partitioning
from sgt_jax.training import adapter, experiment, optimizer
from sgt_jax.training import state as state_lib
from sgt_jax.training import step as training_step
from sgt_jax.training.state import TrainState

AbstractBatch = Mapping[str, Mapping[str, jax.ShapeDtypeStruct]]  # {lane: {field: shape with its sharding}}


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """A step that can be traced, lowered and compiled.

    Attributes:
      step: (state, batch) -> (state, metrics).
      state, batch: trees of ShapeDtypeStruct with shardings.
      model: its config; costs: the family's formulas of work and memory.
      freeze: patterns of parameters that are not trained.
      mesh: of devices.
    """

    step: Callable[[TrainState, AbstractBatch], tuple[TrainState, dict[str, jax.Array]]]
    state: TrainState
    batch: AbstractBatch
    model: ModelConfig
    costs: Costs
    freeze: tuple[str, ...]
    mesh: Mesh | AbstractMesh

    def jaxpr(self) -> ClosedJaxpr:
        """The step traced for the whole mesh."""
        mesh = self.mesh if isinstance(self.mesh, AbstractMesh) else self.mesh.abstract_mesh
        with jax.sharding.use_abstract_mesh(mesh):
            return jax.make_jaxpr(self.step)(self.state, self.batch)

    def lower(self) -> jax.stages.Lowered:
        """The step lowered, with the state donated as in a run."""
        shardings = jax.tree.map(lambda x: x.sharding, self.state)
        whole = jax.NamedSharding(self.mesh, jax.P())
        jitted = jax.jit(self.step, donate_argnums=0, out_shardings=(shardings, whole))
        with jax.set_mesh(self.mesh):
            return jitted.lower(self.state, self.batch)


def plan_step(config: ConfigDict, mesh: Mesh | AbstractMesh, shapes: TrainState | None = None) -> PlannedStep:
    """The step of a config on a mesh of devices, which may be those of a topology description.

    `shapes` are those of the state, from a plan of the same model and optimizer, if there was one: tracing takes seconds.

    Raises:
      ConfigError: the mesh does not fit the rows or the model.
    """
    blueprint = experiment.Blueprint(config)
    tx = optimizer.make_optimizer(config)
    partitioning.check_rows(config.data.rows, mesh, config.accumulate)
    for name, sizes in blueprint.divisible().items():
        partitioning.check_divides(mesh, name, sizes)

    def create(key: jax.Array) -> TrainState:
        return state_lib.create(blueprint.init(key), tx, adapter.freeze(config), config.ema_decay > 0)

    if shapes is None:
        shapes = jax.eval_shape(create, jax.eval_shape(lambda: jax.random.key(0)))
    shardings = partitioning.tree_shardings(shapes, mesh)
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    return PlannedStep(
        training_step.make_step(blueprint.loss, tx, config, blueprint.adaptation),
        state,
        abstract_batch(config, blueprint.layout, mesh),
        blueprint.model_config,
        blueprint.family.costs(blueprint.model_config),
        adapter.freeze(config),
        mesh,
    )


def abstract_batch(config: ConfigDict, layout: Layout, mesh: Mesh | AbstractMesh) -> AbstractBatch:
    """{lane: {field: shape}} of a global batch, by the layout's fields and the config's budgets."""
    sharding = partitioning.batch_sharding(mesh)
    rows, budgets = config.data.rows, dict(config.data.budgets)
    return {
        lane: {
            name: jax.ShapeDtypeStruct(
                (rows, budgets.get(lane, 0), *field.shape), jnp.dtype(field.dtype), sharding=sharding
            )
            for name, field in fields.items()
        }
        for lane, fields in layout.spec.items()
    }
