"""From shapes and counted work to numbers per chip: bytes of state, a first guess of activations, a roofline of the step.

The roofline divides work by what the chip can do at most; it knows nothing of latencies or of how well a kernel runs. Two
times are given: if products, memory and interconnect overlap perfectly, and if none of them does.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax

from sgt_jax.models.attention.work import attention_work
from sgt_jax.models.bagel import costs
from sgt_jax.models.bagel.costs import typical_row
from sgt_jax.parallel.hardware import Chip
from sgt_jax.planning.accounting import Work, count
from sgt_jax.planning.step import PlannedStep


def per_chip(tree: Any) -> int:
    """Bytes of a tree of sharded shapes on one chip."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
        if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended)
    )


def state_bytes(planned: PlannedStep) -> dict[str, int]:
    """Bytes per chip: "parameters", "ema", "optimizer", "gradients" (float32, of what is trained), "batch"."""
    state = planned.state
    parts = {"parameters": state.params, "ema": state.ema, "optimizer": state.opt_state, "batch": planned.batch}
    sizes = {name: per_chip(tree) for name, tree in parts.items()}
    # Adam keeps two moments of everything that is trained, so gradients are as large as either.
    return sizes | {"gradients": sizes["optimizer"] // 2}


def activation_bytes(planned: PlannedStep, rows: float) -> float:
    """A guess of what the backward pass keeps on one chip that holds `rows` rows at a time: for ranking, before compiling."""
    model, shape = planned.model, planned.mesh.shape
    llm, vit = model.llm, model.vit
    lanes = {lane: next(iter(fields.values())).shape[1] for lane, fields in planned.batch.items()}
    slots = rows * (lanes["und"] + lanes["gen"]) / shape["context"]
    patches = rows * lanes["vit"] / shape["context"]
    width = 2 if model.dtype == "bfloat16" else 4
    if model.remat == "full_offload":
        kept = 0.0
    else:
        kept = (slots * llm.hidden_size * llm.num_hidden_layers + patches * vit.hidden_size * model.vit_layers) * width
    tensor = shape["tensor"]
    # One layer at work: MLP and attention tensors with their gradients.
    layer = slots * width * (6 * llm.hidden_size + 4 * (llm.intermediate_size + 2 * llm.hidden_size) / tensor)
    if model.remat in ("dots", "dots_offload", "none"):
        dots = slots * width * (2 * llm.hidden_size + (2 * llm.intermediate_size + 2 * llm.hidden_size) / tensor)
        kept += dots * llm.num_hidden_layers * (2 if model.remat == "none" else model.remat == "dots")
    weights = 2 * 2 * width * 3 * llm.hidden_size * llm.intermediate_size / tensor  # gathered, both experts, two layers
    logits = rows * lanes["labels"] * llm.vocab_size * 4 * 3 / tensor / shape["context"]
    return kept + max(layer + weights, logits)


def sent_bytes(planned: PlannedStep, accumulate: int) -> dict[str, float]:
    """A guess of what one chip sends in a step, "weights" and "activations": for ranking, before compiling.

    Weights in bfloat16 are gathered for the forward and the backward pass of every micro-batch, float32 gradients are
    summed after each, copies of the model once more; tensor parallelism sums what it splits twice a layer, context
    parallelism gathers keys and values; both again backwards, and for what is computed again.
    """
    model, shape = planned.model, planned.mesh.shape
    llm = model.llm
    lanes = {lane: next(iter(fields.values())).shape[1] for lane, fields in planned.batch.items()}
    rows = planned.batch["und"]["sample"].shape[0] / (shape["data"] * shape["fsdp"])
    part = per_chip(planned.state.params) * (shape["fsdp"] - 1)
    weights = accumulate * part * (2 * 2 / 4 + 1)
    if shape["data"] > 1:
        weights += 2 * per_chip(planned.state.params) * (shape["data"] - 1) / shape["data"]
    passes = 2 if model.remat == "none" else 3
    tensor, context = shape["tensor"], shape["context"]
    slots = rows * (lanes["und"] + lanes["gen"])
    summed = 2 * 2 * (tensor - 1) / tensor * slots / context * llm.hidden_size
    gathered = 2 * (context - 1) / context * slots * 2 * llm.num_key_value_heads * llm.head_size / tensor
    return {"weights": weights, "activations": passes * llm.num_hidden_layers * 2 * (summed + gathered)}


def work_of(planned: PlannedStep) -> tuple[Work, dict[str, float], dict[str, float]]:
    """What the step executes, and what the model needs by formula, over all devices.

    Returns:
      Counted work; model FLOPs by part; {"decoder", "vit"} share of block pairs that attention visits on a typical pack.
    """
    budgets = {lane: next(iter(fields.values())).shape[1] for lane, fields in planned.batch.items()}
    rows = planned.batch["und"]["sample"].shape[0]
    pairs, visited, shares = {}, {}, {}
    for name, info in zip(("decoder", "vit"), typical_row(budgets)):
        pairs[name], blocks, shares[name] = attention_work(info, planned.model.attention_block)
        visited[blocks] = shares[name]
        pairs[name] *= rows
    needed = costs.training_flops(planned.model, {lane: n * rows for lane, n in budgets.items()}, pairs, planned.freeze)
    return count(planned.jaxpr(), visited), needed, shares


def roofline(
    chip: Chip, executed: Mapping[str, float], needed: Mapping[str, float], moved: float, sent: float
) -> dict[str, float]:
    """Times of one step in seconds, and utilisations; all work is that of one chip.

    Args:
      executed: FLOPs by kind; needed: model FLOPs by part.
      moved: bytes through the chip's memory; sent: bytes that it sends.
    """
    times = {
        "compute": sum(executed.values()) / chip.flops,
        "memory": moved / chip.bandwidth,
        "interconnect": sent / chip.link,
    }
    best, worst = max(times.values()), sum(times.values())
    ideal = sum(needed.values()) / chip.flops
    return times | {"overlapped": best, "serial": worst, "mfu_overlapped": ideal / best, "mfu_serial": ideal / worst}
