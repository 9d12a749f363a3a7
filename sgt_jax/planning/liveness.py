"""What a traced program keeps in memory at once, without a compiler: a rule of thumb for chips that have none here.

Results of products, convolutions, gathers, reductions and loops are arrays in memory from the equation that makes them to
the last one that reads them. Everything element-wise is taken to be computed inside of whatever reads it, so it takes no
memory but keeps its own operands alive. A loop adds what one round of its body needs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.extend import core

from sgt_jax.planning.accounting import jaxprs, size_of

# What a compiler computes inside of whatever reads it. All other results are arrays of their own.
_FUSED = {
    "abs", "add", "and", "broadcast_in_dim", "ceil", "clamp", "convert_element_type", "copy", "cos", "div", "eq", "erf",
    "erf_inv", "exp", "exp2", "expand_dims", "floor", "ge", "gt", "integer_pow", "iota", "is_finite", "le", "log", "log1p",
    "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pad", "pow", "real", "rem", "reshape", "rev", "round",
    "rsqrt", "select_n", "shift_left", "shift_right_logical", "sign", "sin", "slice", "split", "sqrt", "square", "squeeze",
    "stop_gradient", "sub", "tanh", "transpose", "xor", "optimization_barrier", "sharding_constraint", "name",
    "random_bits", "random_wrap", "random_unwrap", "random_fold_in", "random_seed", "threefry2x32", "reduce_precision",
}  # fmt: skip
_CALLS = {"jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call"}


def temporaries(jaxpr: core.ClosedJaxpr) -> float:
    """Bytes that the program keeps at most, beside its arguments; its results are among them."""
    inner = jaxpr.jaxpr
    held = {var: frozenset() for var in (*inner.invars, *inner.constvars)}
    return _Program().peak(inner, held)


class _Program:
    """One level of a program: equations in a row, those of calls among them."""

    def __init__(self) -> None:
        self.sizes: list[float] = []  # of arrays, in the order in which they are made
        self.born: list[int] = []
        self.died: list[int] = []
        self.extra: list[float] = []  # at each equation, what it needs inside

    def peak(self, jaxpr: core.Jaxpr, held: dict[Any, frozenset[int]]) -> float:
        """The most bytes at any equation; `held` says which arrays stand behind each variable."""
        self._walk(jaxpr, held)
        for array in self._behind(jaxpr.outvars, held):
            self.died[array] = len(self.extra)
        at = np.zeros(len(self.extra) + 1)
        at[: len(self.extra)] += self.extra
        for size, born, died in zip(self.sizes, self.born, self.died, strict=True):
            at[born : died + 1] += size
        return float(at.max())

    def _walk(self, jaxpr: core.Jaxpr, held: dict[Any, frozenset[int]]) -> None:
        wanted = {v for v in jaxpr.outvars if not isinstance(v, core.Literal)}
        wanted |= {v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, core.Literal)}
        for eqn in jaxpr.eqns:
            name, read = eqn.primitive.name, self._behind(eqn.invars, held)
            if name in _CALLS:
                body = jaxprs(eqn.params)[0]
                inside = dict.fromkeys(body.constvars, frozenset())
                for outer, var in zip(eqn.invars[len(eqn.invars) - len(body.invars) :], body.invars, strict=True):
                    inside[var] = self._behind([outer], held)
                self._walk(body, inside)
                for var, out in zip(eqn.outvars, body.outvars, strict=True):
                    held[var] = self._behind([out], inside)
            elif name in _FUSED:
                for var in eqn.outvars:
                    held[var] = read
            else:
                self._make(eqn, read, held, wanted)

    def _make(self, eqn: Any, read: frozenset[int], held: dict[Any, frozenset[int]], wanted: set[Any]) -> None:
        now = len(self.extra)
        self.extra.append(_inside(eqn))
        for array in read:
            self.died[array] = now
        # An update takes the place of the array that it changes.
        in_place = eqn.primitive.name in ("dynamic_update_slice", "scatter", "scatter-add")
        for var in eqn.outvars:
            if var not in wanted:
                continue  # the compiler leaves it out
            behind = self._behind(eqn.invars[:1], held) if in_place else frozenset()
            if not behind:
                behind = frozenset([len(self.sizes)])
                self.sizes.append(size_of(var.aval))
                self.born.append(now)
                self.died.append(now)
            held[var] = behind

    def _behind(self, variables: Any, held: Mapping[Any, frozenset[int]]) -> frozenset[int]:
        found = [held[v] for v in variables if not isinstance(v, core.Literal) and v in held]
        return frozenset().union(*found)


def _inside(eqn: Any) -> float:
    """Bytes that an equation needs inside: of a loop one round, of a choice the dearest branch."""
    most, sliced = 0.0, 0.0
    if eqn.primitive.name == "scan":
        # Each round reads its part of what the loop runs over, such as the parameters of one layer, into an array.
        parts = zip(eqn.invars, eqn.params["jaxpr"].jaxpr.invars, strict=True)
        sliced = sum(size_of(part.aval) for whole, part in parts if whole.aval.shape != part.aval.shape)
    for body in jaxprs(eqn.params):
        held = {var: frozenset() for var in (*body.invars, *body.constvars)}
        most = max(most, _Program().peak(body, held))
    return sliced + most
