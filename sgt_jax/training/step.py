"""One training step: loss, gradients in micro-batches, update, moving average."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sgt_jax import trees
from sgt_jax.batch import PackedBatch
from sgt_jax.errors import UserError
from sgt_jax.models.adapting import Adaptation
from sgt_jax.parallel import distributed
from sgt_jax.training import adapter, optimizer
from sgt_jax.training.state import TrainState


def value_and_grad(loss_of: Callable[..., tuple[jax.Array, Any]], params: Any, parts: int = 1) -> Any:
    """((loss, metrics), gradients) of a loss that may be computed in `parts` micro-batches, one after the other.

    Args:
      loss_of: params -> (loss, metrics); with parts > 1 it gets `part=(index, parts)` and gives that micro-batch's share:
        shares of the loss, and of metrics that are scalars, add up to the whole step's, so counts that they are divided
        by must be the whole step's. Other metrics have one entry per row; micro-batch i holds rows i, i + parts, ...
      parts: how many; gradients of all are kept in the parameters' dtype, activations of one at a time.
    """
    if parts == 1:
        return jax.value_and_grad(loss_of, has_aux=True)(params)

    def share(index: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        of_part = functools.partial(loss_of, part=(index, parts))
        (loss, metrics), gradients = jax.value_and_grad(of_part, has_aux=True)(params)
        sums = {name: x for name, x in metrics.items() if x.ndim == 0}
        return (loss, sums, gradients), {name: x for name, x in metrics.items() if x.ndim}

    def add(total: Any, index: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        found, per_row = share(index)
        return jax.tree.map(jnp.add, total, found), per_row

    index = jnp.arange(parts)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(share, index[0])[0])
    (loss, sums, gradients), per_row = jax.lax.scan(add, zeros, index)
    per_row = {name: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]) for name, x in per_row.items()}
    return (loss, sums | per_row), gradients


def update_ema(ema: Any, params: Any, decay: float) -> Any:
    """ema = decay * ema + (1 - decay) * params, leaf by leaf; both trees hold the trainable parameters."""
    return jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, ema, params)


class NonFiniteError(UserError, FloatingPointError):
    """The loss or the gradient was not finite too many times in a row; the message names the examples."""


def make_step(
    loss_fn: Callable, tx: optax.GradientTransformation, config: Any, adaptation: Adaptation | None = None
) -> Callable:
    """The pure update: (state, batch) -> (state, metrics).

    `loss_fn(params, batch, key) -> (loss, metrics)` is an objective's, bound to a model (see `objectives`); with
    config.accumulate > 1 it gets `part=(index, count)`, too, and gives that micro-batch's share. An update whose loss or
    gradient norm is not finite leaves parameters, EMA and optimizer as they were and is counted. With an `adaptation` only
    adapters are trained.
    """
    freeze = adapter.freeze(config)
    learning_rate = optimizer.schedule(config)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        # Everything random in a step follows from the seed and the step's number: nothing to save, nothing to lose.
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        trainable, frozen = trees.split_trainable(state.params, freeze)

        def loss_of(trainable: Any, **part: Any) -> tuple[jax.Array, dict]:
            params = adapter.for_training(trees.merge(trainable, frozen), adaptation, key, **part)
            return loss_fn(params, batch, key, **part)

        (loss, metrics), gradients = value_and_grad(loss_of, trainable, config.accumulate)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, opt_state = tx.update(gradients, state.opt_state, trainable)
        updated = optax.apply_updates(trainable, updates)
        ema = update_ema(state.ema, updated, config.ema_decay) if state.ema else state.ema

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

        metrics = dict(metrics, loss=loss, grad_norm=norm, lr=learning_rate(state.step), nonfinite=~finite)
        return TrainState(
            step=state.step + 1,
            params=trees.merge(keep(updated, trainable), frozen),
            ema=keep(ema, state.ema),
            opt_state=keep(opt_state, state.opt_state),
            skipped=state.skipped + ~finite,
        ), metrics

    return step


class Step:
    """An update that is compiled once, for the shapes of its first call; it refuses others."""

    def __init__(self, jitted: Any) -> None:
        self._jitted, self._compiled = jitted, None

    def __call__(self, state: TrainState, batch: PackedBatch) -> tuple[TrainState, dict[str, jax.Array]]:
        """(state, batch on the devices) -> (state, metrics)."""
        if self._compiled is None:
            self._compiled = self._jitted.lower(state, batch).compile()
            # No process takes the first step until all have compiled: some platforms give up on a collective after 30 s.
            distributed.meet("compiled")
        return self._compiled(state, batch)
