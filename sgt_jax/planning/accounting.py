"""What a traced step computes and moves, counted on its jaxpr: loops by their trip count, attention by the blocks it visits.

XLA's own `cost_analysis` counts the body of a loop once and a block-sparse kernel as nothing or as dense; a jaxpr knows
its loops. Only matrix products and convolutions count as FLOPs: at 7B width all else is below 1 %.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.extend import core

from sgt_jax.models.attention.blockwise import VISIT

# Primitives whose operands and results go through memory; everything else is taken to be fused into a neighbour.
_MOVERS = {
    "dot_general", "conv_general_dilated", "gather", "scatter", "scatter-add", "scatter_add", "sort", "concatenate",
    "transpose", "dynamic_slice", "dynamic_update_slice", "pallas_call",
}  # fmt: skip


@dataclasses.dataclass
class Work:
    """What a program does, over all devices.

    Attributes:
      flops: by kind: "matmul", "convolution", "attention" (kernels, and loops over allowed blocks).
      bytes: operands and results of everything that cannot be fused.
      unknown_loops: loops whose trip count is not in the program; their bodies are counted once.
    """

    flops: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    bytes: float = 0.0
    unknown_loops: int = 0

    @property
    def total(self) -> float:
        """All FLOPs."""
        return float(sum(self.flops.values()))


def count(jaxpr: Any, visited: Mapping[int, float] | None = None) -> Work:
    """Counts a closed jaxpr.

    Args:
      jaxpr: as from `jax.make_jaxpr`.
      visited: {all block pairs of an attention kernel: share of them that a typical batch visits}; 1 for others.
    """
    work = Work()
    _walk(jaxpr.jaxpr, 1.0, visited or {}, work)
    return work


def _walk(jaxpr: Any, times: float, visited: Mapping[int, float], work: Work) -> None:
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "pallas_call":
            work.flops["attention"] += times * _kernel_flops(eqn, visited)
        elif name == "dot_general":
            work.flops["matmul"] += times * _dot_flops(eqn)
        elif name == "ragged_dot_general":
            work.flops["matmul"] += times * _ragged_flops(eqn)
        elif name == "conv_general_dilated":
            work.flops["convolution"] += times * _conv_flops(eqn)
        else:
            _walk_inner(eqn, name, times, visited, work)
        if name in _MOVERS:
            work.bytes += times * _moved(eqn, name)


def _moved(eqn: Any, name: str) -> float:
    """Bytes that an equation reads and writes: all of its operands, but of what is sliced the slice alone."""
    if name == "dynamic_slice":
        return 2 * size_of(eqn.outvars[0].aval)
    if name == "dynamic_update_slice":
        return 2 * size_of(eqn.invars[1].aval)
    return sum(size_of(v.aval) for v in (*eqn.invars, *eqn.outvars) if hasattr(v.aval, "shape"))


def _walk_inner(eqn: Any, name: str, times: float, visited: Mapping[int, float], work: Work) -> None:
    if name == "cond":
        # The dearest branch: a plan must not promise less work than there may be.
        branches = []
        for branch in eqn.params["branches"]:
            branches.append(Work())
            _walk(branch.jaxpr, times, visited, branches[-1])
        most = max(branches, key=lambda w: w.total)
        work.flops.update(most.flops)
        work.bytes += most.bytes
        work.unknown_loops += most.unknown_loops
        return
    if eqn.params.get("name") == VISIT:
        work.flops["attention"] += times * _visit_flops(eqn, visited)
        return
    if name == "scan":
        times = times * eqn.params["length"]
    elif name == "while":
        work.unknown_loops += 1
    elif name == "shard_map":
        # Inside, shapes are one device's.
        mesh = eqn.params["mesh"]
        times = times * math.prod(mesh.shape[a] for a in eqn.params.get("manual_axes", mesh.axis_names))
    for inner in jaxprs(eqn.params):
        _walk(inner, times, visited, work)


def jaxprs(params: dict[str, Any]) -> list[Any]:
    """The programs inside an equation, opened."""
    found = []
    for value in params.values():
        for x in value if isinstance(value, list | tuple) else (value,):
            if isinstance(x, core.ClosedJaxpr):
                found.append(x.jaxpr)
            elif isinstance(x, core.Jaxpr):
                found.append(x)
    return found


def size_of(aval: Any) -> float:
    """Bytes of an array; 0 of what has none, such as a random key."""
    try:
        return math.prod(aval.shape) * np.dtype(aval.dtype).itemsize
    except TypeError:
        return 0.0


def _dot_flops(eqn: Any) -> float:
    (contract, _), _ = eqn.params["dimension_numbers"]
    lhs = eqn.invars[0].aval.shape
    return 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(lhs[i] for i in contract)


def _ragged_flops(eqn: Any) -> float:
    """Every row meets one group's matrix: rows, columns and contraction once, whatever the number of groups."""
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (contract, _), _ = numbers.dot_dimension_numbers
    lhs, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if set(numbers.lhs_ragged_dimensions) <= set(contract):  # a gradient of the matrices: the result has a group axis
        return 2.0 * math.prod(out[1:]) * math.prod(lhs[i] for i in contract)
    return 2.0 * math.prod(out) * math.prod(lhs[i] for i in contract)


def _visit_flops(eqn: Any, visited: Mapping[int, float]) -> float:
    """One block of queries of blockwise attention: the loop's body, once for each block of keys that is visited."""
    inner = Work()
    _walk(eqn.params["jaxpr"].jaxpr, 1.0, visited, inner)
    if not inner.total:
        return 0.0  # what is left of a walk whose results nobody wants: its arguments are gone, too
    order = eqn.invars[-len(eqn.outvars) - 2]  # the arguments are (order, count, *carry), after what the loop closes over
    if order.aval.ndim == 3:
        blocks, of_keys = order.aval.shape[1:]
        return inner.total * of_keys * visited.get(blocks * of_keys, 1.0)
    # With some inputs frozen JAX takes the loop apart: the one row of `order` that a block of queries needs is an argument.
    of_keys = next(v.aval.shape[0] for v in eqn.invars if v.aval.ndim == 1 and v.aval.dtype == np.int32)
    return inner.total * of_keys * next((share for walk, share in visited.items() if walk % of_keys == 0), 1.0)


def _conv_flops(eqn: Any) -> float:
    """Taps times inputs per output; padding is counted, as hardware computes it."""
    dimensions, kernel = eqn.params["dimension_numbers"], eqn.invars[1].aval.shape
    out_features = kernel[dimensions.rhs_spec[0]]
    dilated = math.prod(
        eqn.params["lhs_dilation"]
    )  # the gradient of a strided convolution multiplies by inserted zeros
    return 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel) / out_features / dilated


def _kernel_flops(eqn: Any, visited: Mapping[int, float]) -> float:
    """Products in a kernel's body, times its grid; a side of the grid that is decided at run time counts as the walk."""
    inner = Work()
    _walk(eqn.params["jaxpr"], 1.0, visited, inner)
    grid = eqn.params["grid_mapping"].grid
    fixed = math.prod(side for side in grid if isinstance(side, int))
    if all(isinstance(side, int) for side in grid):
        return inner.total * fixed
    # The walk's arrays are the first operands after the dynamic sides; they are as long as the walk can get.
    longest = next(v.aval.shape[0] for v in eqn.invars if len(v.aval.shape) == 1)
    return inner.total * fixed * longest * visited.get(longest, 1.0)
