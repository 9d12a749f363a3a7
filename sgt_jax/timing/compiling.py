"""What it costs to make a program: tracing it, lowering it, and compiling it, without any cache."""

import time
from collections.abc import Callable
from typing import Any


def with_gradient(parts: dict[str, tuple[Callable, tuple]]) -> dict[str, tuple[Callable, tuple]]:
    """The parts of `timing.step.config_parts` and, between loss and step, the loss with its gradient: the rest is updates."""
    import jax

    loss, inputs = parts["loss, forward only"]
    gradient = jax.value_and_grad(loss, has_aux=True)
    return {"loss, forward only": parts["loss, forward only"], "loss and gradient": (gradient, inputs), "step": parts["step"]}


def compile_times(parts: dict[str, tuple[Callable, tuple]]) -> list[dict[str, Any]]:
    """Per part: seconds of processor time (of all threads) for tracing, lowering and compiling, and operations lowered."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    rows = []
    try:
        for name, (function, inputs) in parts.items():
            jax.clear_caches()
            times = [time.process_time()]
            traced = jax.jit(function).trace(*inputs)
            times.append(time.process_time())
            lowered = traced.lower()
            times.append(time.process_time())
            lowered.compile()
            times.append(time.process_time())
            trace, lower, compiling = (after - earlier for earlier, after in zip(times, times[1:]))
            operations = lowered.as_text().count(" = ")
            rows.append(dict(part=name, trace=trace, lower=lower, compile=compiling, operations=operations))
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [f"{'part':20} {'trace s':>8} {'lower s':>8} {'compile s':>9} {'operations':>10}   processor time, no cache"]
    lines += [
        f"{row['part']:20} {row['trace']:8.1f} {row['lower']:8.1f} {row['compile']:9.1f} {row['operations']:10,}"
        for row in rows
    ]
    return "\n".join(lines)
