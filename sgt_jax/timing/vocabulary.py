"""Compares where to compute the logits: at label slots only, at all und slots, or at all und slots chunk by chunk.

    python -m sgt_jax.timing.vocabulary --und 1280 --labels 384 --width 256 --vocabulary 8192 --chunk 256

Times forward and backward of head and cross-entropy on one row, in turns in one process; all three forms compute the same
loss. Memory is what XLA allocates beyond arguments and results; FLOPs are counted on the jaxpr. The numbers above are the
defaults and keep the proportions of the 7B recipe.
"""

import argparse
import statistics
import time
from collections.abc import Sequence


def forms(options):
    """{name: loss(kernel, hidden)} of the same labels."""
    import jax
    import jax.numpy as jnp

    from sgt_jax.models.layers import product

    slot = jnp.arange(options.labels) * (options.und // options.labels)
    target = (jnp.arange(options.labels) * 7919) % options.vocabulary
    everywhere = jnp.zeros(options.und, jnp.int32).at[slot].set(target)
    counted = jnp.zeros(options.und).at[slot].set(1.0)

    def cross_entropy(kernel, hidden, target, weight):
        logits = product(hidden, kernel, None, jnp.float32)
        picked = jnp.take_along_axis(logits, target[:, None], axis=1)[:, 0]
        return jnp.sum(weight * (jax.nn.logsumexp(logits, axis=1) - picked))

    def at_labels(kernel, hidden):
        return cross_entropy(kernel, hidden[slot], target, jnp.ones(options.labels))

    def at_all(kernel, hidden):
        return cross_entropy(kernel, hidden, everywhere, counted)

    def in_chunks(kernel, hidden):
        def cut(x):
            return x.reshape(-1, options.chunk, *x.shape[1:])

        def one(total, part):
            return total + jax.checkpoint(cross_entropy)(kernel, *part), None

        return jax.lax.scan(one, 0.0, tuple(map(cut, (hidden, everywhere, counted))))[0]

    return {"label slots": at_labels, "all und slots": at_all, f"all, {options.chunk} at a time": in_chunks}


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = dict(und=1280, labels=384, width=256, vocabulary=8192, chunk=256, repeats=5)
    for name, size in sizes.items():
        flags.add_argument(f"--{name}", type=int, default=size)
    return flags


def main(arguments: Sequence[str] | None = None) -> None:
    """Times the three forms in turns and prints a line for each."""
    options = parser().parse_args(arguments)
    import jax

    from sgt_jax.planning.accounting import count

    keys = jax.random.split(jax.random.key(0), 2)
    given = (
        jax.random.normal(keys[0], (options.width, options.vocabulary)) * options.width**-0.5,
        jax.random.normal(keys[1], (options.und, options.width)),
    )
    rows = {}
    for name, loss in forms(options).items():
        step = jax.value_and_grad(loss, (0, 1))
        compiled = jax.jit(step).lower(*given).compile()
        value = float(compiled(*given)[0])
        flops = count(jax.make_jaxpr(step)(*given)).total
        rows[name] = (compiled, value, flops, compiled.memory_analysis().temp_size_in_bytes, [])
    for _ in range(options.repeats):
        for compiled, _, _, _, seconds in rows.values():
            began = time.perf_counter()
            jax.block_until_ready(compiled(*given))
            seconds.append(time.perf_counter() - began)
    first = next(iter(rows.values()))
    print(f"{'vocabulary paid at':24} {'time':>6} {'FLOPs':>6} {'memory':>7}   loss")
    for name, (_, value, flops, memory, seconds) in rows.items():
        relative = statistics.median(seconds) / statistics.median(first[4])
        print(f"{name:24} {relative:6.2f} {flops / first[2]:6.2f} {memory / first[3]:7.2f}   {value:.4f}")


if __name__ == "__main__":
    main()
