"""Everything that a training step changes, as one pytree of plain nested dicts; nothing hidden."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sgt_jax import trees
from sgt_jax.errors import ConfigError


class TrainState(NamedTuple):
    """The state of a run; a checkpoint holds this and the data iterator, and that is all.

    Attributes:
      step: int32 scalar, updates tried so far (skipped ones included): with the seed it fixes every random draw.
      params: all parameters, trainable and frozen.
      ema: moving average of the trainable parameters, {} if switched off.
      opt_state: optimizer state of the trainable parameters; frozen ones cost nothing here.
      skipped: int32 scalar, updates skipped because the loss or the gradient was not finite.
    """

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any
    skipped: jax.Array

    def weights(self, which: str) -> Any:
        """Full parameters for evaluation: `which` is "params" (raw) or "ema".

        Raises:
          ConfigError: "ema" was asked for in a run without EMA, or `which` is something else.
        """
        if which == "params":
            return self.params
        if which != "ema":
            raise ConfigError(f"weights '{which}' do not exist; choose 'params' or 'ema'")
        if not self.ema:
            raise ConfigError("this run keeps no EMA (config.ema_decay is 0): evaluate 'params'")
        return trees.merge(self.ema, self.params)


def create(params: Any, tx: optax.GradientTransformation, freeze: tuple[str, ...], ema: bool) -> TrainState:
    """The state at step 0; jit it with output shardings to create a large one in place."""
    trainable, _ = trees.split_trainable(params, freeze)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A real copy: params and ema are donated to the step separately.
        ema=jax.tree.map(jnp.copy, trainable) if ema else {},
        opt_state=tx.init(trainable),
        skipped=jnp.zeros((), jnp.int32),
    )
