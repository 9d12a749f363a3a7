"""Turns shapes and counted work into numbers per chip: bytes of state, a first guess of activations, a roofline of the step.

The roofline divides work by what the chip can do at most; it knows nothing of latencies or of how well a kernel runs. Two
times are given: if products, memory and interconnect overlap perfectly, and if none of them does.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax

from sgt_jax.models.attention.work import attention_work
from sgt_jax.parallel import partitioning
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
    return planned.costs.activation_bytes(lane_lengths(planned), rows, planned.mesh.shape)


def lane_lengths(planned: PlannedStep) -> dict[str, int]:
    """Slots of every lane of a row."""
    return {lane: next(iter(fields.values())).shape[1] for lane, fields in planned.batch.items()}


def sent_bytes(planned: PlannedStep, accumulate: int) -> dict[str, float]:
    """A guess of what one chip sends in a step, "weights" and "activations": for ranking, before compiling.

    Weights in bfloat16 are gathered for the forward and the backward pass of every micro-batch, float32 gradients are
    summed after each, copies of the model once more.
    """
    shape = planned.mesh.shape
    rows = planned.batch["labels"]["target"].shape[0] / partitioning.shards("rows", planned.mesh)
    part = per_chip(planned.state.params) * (shape["fsdp"] * shape["fsdp_transpose"] - 1)
    weights = accumulate * part * (2 * 2 / 4 + 1)
    if shape["data"] > 1:
        weights += 2 * per_chip(planned.state.params) * (shape["data"] - 1) / shape["data"]
    return {"weights": weights, "activations": planned.costs.exchanged_bytes(lane_lengths(planned), rows, shape)}


def work_of(planned: PlannedStep) -> tuple[Work, dict[str, float], dict[str, float]]:
    """What the step executes, and what the model needs by formula, over all devices.

    Returns:
      Counted work; model FLOPs by part; for each attention the share of block pairs that attention visits on a typical pack.
    """
    budgets = lane_lengths(planned)
    rows = planned.batch["labels"]["target"].shape[0]
    pairs, visited, shares = {}, {}, {}
    for name, info in planned.costs.typical_row(budgets).items():
        pairs[name], blocks, shares[name] = attention_work(
            info, planned.model.attention_block, planned.model.attention
        )
        visited[blocks] = shares[name]
        pairs[name] *= rows
    needed = planned.costs.training_flops({lane: n * rows for lane, n in budgets.items()}, pairs, planned.freeze)
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
