"""The SGT objective: flow matching on noisy latent tokens plus cross-entropy on answer tokens, as global token means.

Everything is a sum over the batch divided by a count, so that a step may be cut into micro-batches or spread over any
mesh: add up `loss_sums` and `loss_counts` of the parts, then `normalise` once, with the counts of the whole step.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sgt_jax.batch import PackedBatch

Scalars = dict[str, jax.Array]


def token_losses(outputs: Mapping[str, jax.Array], batch: PackedBatch) -> dict[str, jax.Array]:
    """Losses before any reduction, float32.

    Returns:
      {"ce": [R, L] cross-entropy per label, 0 for padding; "mse": [R, G, p*p*C] squared error of the velocity, 0 where
      a slot carries no flow loss}.
    """
    labels = batch["labels"]
    logits = outputs["logits"].astype(jnp.float32)
    picked = jnp.take_along_axis(logits, labels["target"][..., None], axis=-1)[..., 0]
    ce = jax.nn.logsumexp(logits, axis=-1) - picked
    error = (outputs["velocity"] - outputs["velocity_target"]).astype(jnp.float32)
    return {
        "ce": jnp.where(labels["weight"] > 0, ce, 0.0),
        # The error itself is masked, not its square: a padding slot must give no gradient, whatever it holds.
        "mse": jnp.where(outputs["noisy"][..., None], error, 0.0) ** 2,
    }


def loss_counts(batch: PackedBatch) -> Scalars:
    """What the sums are divided by; known from the batch alone: "ce_count", "ce_weight", "mse_count"."""
    weight, gen = batch["labels"]["weight"], batch["gen"]
    return {
        "ce_count": jnp.sum(weight > 0).astype(jnp.float32),
        "ce_weight": jnp.sum(weight),
        "mse_count": jnp.sum((gen["noisy"] > 0) & (gen["sample"] > 0)).astype(jnp.float32),
    }


def loss_sums(outputs: Mapping[str, jax.Array], batch: PackedBatch) -> Scalars:
    """Sums over the batch: "ce_sum", "ce_weighted_sum" (by the labels' weights), "mse_sum" (of channel means)."""
    losses = token_losses(outputs, batch)
    return {
        "ce_sum": jnp.sum(losses["ce"]),
        "ce_weighted_sum": jnp.sum(losses["ce"] * batch["labels"]["weight"]),
        "mse_sum": jnp.sum(jnp.mean(losses["mse"], axis=-1)),
    }


def normalise(sums: Mapping[str, jax.Array], counts: Mapping[str, jax.Array], config: Any) -> tuple[jax.Array, Scalars]:
    """Sums and the whole step's counts -> (loss, {"ce", "mse"}); a step without labels or latents gives 0 there.

    `config` has ce_weight, mse_weight and ce_loss_reweighting (weight labels by 1/sqrt(length of their answer)).
    """
    if config.ce_loss_reweighting:
        # Weights are below 1, so a sum of them may be, too: only an empty sum is replaced.
        total = counts["ce_weight"]
        ce = sums["ce_weighted_sum"] / jnp.where(total > 0, total, 1.0)
    else:
        ce = sums["ce_sum"] / jnp.maximum(counts["ce_count"], 1.0)
    mse = sums["mse_sum"] / jnp.maximum(counts["mse_count"], 1.0)
    return config.ce_weight * ce + config.mse_weight * mse, {"ce": ce, "mse": mse}


def sgt_objective(
    outputs: Mapping[str, jax.Array], batch: PackedBatch, config: Any, counts: Mapping[str, jax.Array] | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of one global batch, or one micro-batch's share of it.

    Args:
      outputs: of the model's `forward`.
      batch: its lanes "labels" and "gen".
      config: see `normalise`.
      counts: the whole step's, for a micro-batch; the batch's own by default.

    Returns:
      The loss, and metrics: "ce" and "mse" (the two means), all sums and counts of this batch, and "row_loss" [R], each
      row's own weighted sums, which is finite unless that row broke. Loss and scalars of micro-batches add up.
    """
    sums, own_counts = loss_sums(outputs, batch), loss_counts(batch)
    loss, means = normalise(sums, own_counts if counts is None else counts, config)
    losses = jax.lax.stop_gradient(token_losses(outputs, batch))
    row_loss = config.ce_weight * jnp.sum(losses["ce"], axis=1) + config.mse_weight * jnp.sum(
        jnp.mean(losses["mse"], axis=-1), axis=1
    )
    return loss, means | sums | own_counts | {"row_loss": row_loss}
