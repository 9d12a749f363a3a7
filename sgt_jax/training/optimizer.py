"""How parameters change: micro-batches, schedule, clipping, AdamW or Muon, freezing by parameter path, moving average.

Config fields read here (an ml_collections ConfigDict, or anything with these attributes):

  total_steps                    length of the run, for schedules that end
  accumulate                     micro-batches that a step is computed in (read by step.py)
  freeze                         regular expressions; a parameter whose path ("decoder/layers_0/und/q_proj/kernel")
                                 matches one anywhere is not trained: no gradient, no optimizer state, no EMA
  ema_decay                      d in ema = d * ema + (1 - d) * parameter
  optimizer.name                 "adamw" or "muon"
  optimizer.learning_rate        peak rate of AdamW
  optimizer.b1, b2, eps, weight_decay
  optimizer.clip                 largest global gradient norm; 0 switches clipping off
  optimizer.muon_learning_rate, optimizer.muon_momentum
                                 Muon's, for the weight matrices inside decoder and ViT layers; AdamW does the rest
  schedule.name                  "constant", "cosine" or "warmup_stable_decay"; all start with a linear warm-up
  schedule.warmup_steps          step s < warmup_steps has the factor s / warmup_steps, so the first step has rate 0
  schedule.delay_steps           optional: so many steps more have rate 0 before the warm-up starts (OmniGen2's reference: 1)
  schedule.final_fraction        last rate as a share of the peak ("cosine", "warmup_stable_decay")
  schedule.decay_fraction        share of the run over which "warmup_stable_decay" falls, linearly
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sgt_jax.errors import ConfigError
from sgt_jax.training.muon import scale_by_muon
from sgt_jax.trees import path_name

# Muon's share: weight matrices inside blocks, [in, out], or [layer, in, out] when layers are stacked.
_MUON = re.compile(r"(^|/)layers(_\d+)?/.*kernel$")


# -- Schedule ----------------------------------------------------------------------------------------------------------


def _factor(config: Any) -> Callable[[jax.Array], jax.Array]:
    """Step -> share of the peak rate."""
    name, warmup, total = config.schedule.name, config.schedule.warmup_steps, config.total_steps
    delay = getattr(config.schedule, "delay_steps", 0)
    if name not in ("constant", "cosine", "warmup_stable_decay"):
        raise ConfigError(f"schedule '{name}' does not exist; choose constant, cosine or warmup_stable_decay")
    final = 1.0 if name == "constant" else config.schedule.final_fraction
    if name == "cosine":
        start = warmup
    elif name == "warmup_stable_decay":
        start = max(warmup, total - round(config.schedule.decay_fraction * total))
    else:
        start = total

    def factor(step: jax.Array) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        step = jnp.maximum(step - delay, 0) if delay else step
        rise = jnp.minimum(step / warmup, 1.0) if warmup else jnp.ones_like(step)
        fallen = jnp.clip((step - start) / max(total - start, 1), 0.0, 1.0)
        if name == "cosine":
            fallen = 0.5 - 0.5 * jnp.cos(jnp.pi * fallen)
        return rise * (1.0 - (1.0 - final) * fallen)

    return factor


def schedule(config: Any) -> Callable[[jax.Array], jax.Array]:
    """Step (0 for the first) -> AdamW's learning rate."""
    factor = _factor(config)
    return lambda step: config.optimizer.learning_rate * factor(step)


# -- The optimizer -----------------------------------------------------------------------------------------------------


def clip_by_norm(limit: float) -> optax.GradientTransformation:
    """Scales all gradients by min(1, limit / (norm + 1e-6)), the reference's clipping."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        factor = jnp.minimum(1.0, limit / (optax.tree.norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * factor, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make_optimizer(config: Any) -> optax.GradientTransformation:
    """Clipping, then AdamW, or Muon on block matrices and AdamW elsewhere. Give it the trainable parameters only.

    Raises:
      ConfigError: unknown optimizer.name or schedule.name.
    """
    settings = config.optimizer
    factor = _factor(config)
    adamw = optax.adamw(
        schedule(config), b1=settings.b1, b2=settings.b2, eps=settings.eps, weight_decay=settings.weight_decay
    )
    if settings.name == "muon":
        muon = optax.chain(
            scale_by_muon(settings.muon_momentum),
            # Tall matrices get longer steps, as in Muon's own implementation.
            optax.stateless(lambda updates, _: jax.tree.map(_scale_for_shape, updates)),
            optax.add_decayed_weights(settings.weight_decay),
            optax.scale_by_learning_rate(lambda step: settings.muon_learning_rate * factor(step)),
        )
        inner = optax.multi_transform({"muon": muon, "adamw": adamw}, _labels)
    elif settings.name == "adamw":
        inner = adamw
    else:
        raise ConfigError(f"optimizer '{settings.name}' does not exist; choose adamw or muon")
    return optax.chain(clip_by_norm(settings.clip), inner) if settings.clip else inner


def _labels(params: Any) -> Any:
    """ "muon" or "adamw" for every parameter."""

    def label(path: tuple, _: Any) -> str:
        return "muon" if _MUON.search(path_name(path)) else "adamw"

    return jax.tree_util.tree_map_with_path(label, params)


def _scale_for_shape(update: jax.Array) -> jax.Array:
    fan_in, fan_out = update.shape[-2:]
    return update * max(1.0, fan_out / fan_in) ** 0.5


# -- Accumulation ------------------------------------------------------------------------------------------------------


# -- Freezing ----------------------------------------------------------------------------------------------------------


# -- Moving average ----------------------------------------------------------------------------------------------------
