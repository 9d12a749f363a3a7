"""The SGT objective: flow matching on noisy latent tokens plus cross-entropy on answer tokens, as global token means.

Everything is a sum over the batch divided by a count, so that a step may be cut into micro-batches or spread over any
mesh: add up `loss_sums` and `loss_counts` of the parts, then `normalise` once, with the counts of the whole step.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from sgt_jax.batch import PackedBatch, real_slots
from sgt_jax.models.family import Model, Params
from sgt_jax.parallel.partitioning import micro_batch
from sgt_jax.training.objectives import Metrics, Objective


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


def loss_counts(batch: PackedBatch, noisy: jax.Array) -> Metrics:
    """What the sums are divided by; known from the batch alone: "ce_count", "ce_weight", "mse_count".

    `noisy` is the model's `noisy(batch)`: bool [R, G], the slots that carry flow loss.
    """
    weight = batch["labels"]["weight"]
    return {
        "ce_count": jnp.sum(weight > 0).astype(jnp.float32),
        "ce_weight": jnp.sum(weight),
        "mse_count": jnp.sum(noisy).astype(jnp.float32),
    }


def loss_sums(losses: Mapping[str, jax.Array], batch: PackedBatch) -> Metrics:
    """Sums of `token_losses`: "ce_sum", "ce_weighted_sum" (by the labels' weights), "mse_sum" (of channel means)."""
    return {
        "ce_sum": jnp.sum(losses["ce"]),
        "ce_weighted_sum": jnp.sum(losses["ce"] * batch["labels"]["weight"]),
        "mse_sum": jnp.sum(jnp.mean(losses["mse"], axis=-1)),
    }


def normalise(
    sums: Mapping[str, jax.Array], counts: Mapping[str, jax.Array], settings: ConfigDict
) -> tuple[jax.Array, Metrics]:
    """Sums and the whole step's counts -> (loss, {"ce", "mse"}); a step without labels or latents gives 0 there.

    `settings` has ce_weight, mse_weight and ce_loss_reweighting (weight labels by 1/sqrt(length of their answer)).
    """
    if settings.ce_loss_reweighting:
        # Weights are below 1, so a sum of them may be, too: only an empty sum is replaced.
        total = counts["ce_weight"]
        ce = sums["ce_weighted_sum"] / jnp.where(total > 0, total, 1.0)
    else:
        ce = sums["ce_sum"] / jnp.maximum(counts["ce_count"], 1.0)
    mse = sums["mse_sum"] / jnp.maximum(counts["mse_count"], 1.0)
    return settings.ce_weight * ce + settings.mse_weight * mse, {"ce": ce, "mse": mse}


def sgt_objective(
    outputs: Mapping[str, jax.Array],
    batch: PackedBatch,
    settings: ConfigDict,
    whole: Mapping[str, jax.Array] | None = None,
) -> tuple[jax.Array, Metrics]:
    """The loss of one global batch, or one micro-batch's share of it.

    Args:
      outputs: of the model's `forward`.
      batch: its lane "labels".
      settings: see `normalise`.
      whole: `loss_counts` of the whole step, for a micro-batch; the batch's own by default.

    Returns:
      The loss, and metrics: "ce" and "mse" (the two means), all sums and counts of this batch, and "row_loss" [R], each
      row's own weighted sums, which is finite unless that row broke. Loss and scalars of micro-batches add up.
    """
    losses = token_losses(outputs, batch)
    sums, counts = loss_sums(losses, batch), loss_counts(batch, outputs["noisy"])
    loss, means = normalise(sums, counts if whole is None else whole, settings)
    losses = jax.lax.stop_gradient(losses)
    row_loss = settings.ce_weight * jnp.sum(losses["ce"], axis=1) + settings.mse_weight * jnp.sum(
        jnp.mean(losses["mse"], axis=-1), axis=1
    )
    return loss, means | sums | counts | {"row_loss": row_loss}


def loss(
    params: Params,
    batch: PackedBatch,
    key: jax.Array,
    model: Model,
    part: tuple[jax.Array, int] | None = None,
    *,
    settings: ConfigDict,
) -> tuple[jax.Array, Metrics]:
    """See `objectives.Loss`."""
    # Drawn and counted for the whole step: cutting it up changes neither.
    draws, whole = model.draw(key, batch), loss_counts(batch, model.noisy(batch))
    if part is not None:
        batch, draws = micro_batch((batch, draws), part)
    outputs = model.forward(params, batch, draws)
    if getattr(settings, "reference_scaling", False):
        return reference_share(outputs, batch, settings, 1 if part is None else part[1])
    return sgt_objective(outputs, batch, settings, whole)


def reference_share(
    outputs: Mapping[str, jax.Array], batch: PackedBatch, settings: ConfigDict, parts: int
) -> tuple[jax.Array, Metrics]:
    """A micro-batch's share as OmniGen2's reference has it: its own mean flow loss, plus its mean answer loss over `parts`.

    So flow losses count `parts` times as much as answers, and a label or latent counts more in a short micro-batch.
    """
    _, metrics = sgt_objective(outputs, batch, settings)
    return settings.mse_weight * metrics["mse"] + settings.ce_weight * metrics["ce"] / parts, metrics


def _tokens(batch: PackedBatch, lanes: Sequence[str]) -> int:
    return sum(real_slots(batch[lane]) for lane in lanes)


OBJECTIVE = Objective(loss, _tokens)
