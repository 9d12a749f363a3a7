"""Items per second of processor time, in batches and one at a time, in alternating rounds after everything is compiled.

python -m tests.support.answering_speed [--items 64] [--batch 16] [--rounds 3] [--tokens 8] [--whole]

With --whole no token ends a reply, so that each takes all its tokens, as those of a real model would. With --products alone:
how long rows take through the two shapes of the nano model's MLP, which bounds what a batch can save while it writes.
"""

import argparse
import dataclasses
import random
import statistics
import time

from tests.support import benchmark_folders as folders


def main() -> None:
    flags = argparse.ArgumentParser()
    for name, default in (("items", 64), ("batch", 16), ("rounds", 3), ("tokens", 8)):
        flags.add_argument(f"--{name}", type=int, default=default)
    flags.add_argument("--whole", action="store_true")
    flags.add_argument("--products", action="store_true")
    options = flags.parse_args()
    if options.products:
        return products((1, options.batch), options.rounds)
    from sgt_jax.evaluation.benchmarks import answering
    from sgt_jax.evaluation.benchmarks.items import Item, Picture
    from sgt_jax.evaluation.benchmarks.records import Kept
    from sgt_jax.inference import load
    from sgt_jax.inference.subject import CheckpointSubject

    draw, assistant = random.Random(0), load.load("package:nano")
    subject = CheckpointSubject(assistant, {}, ())
    if options.whole:
        steps = assistant.sampler(()).steps
        never = dataclasses.replace(steps._layout.tokens, eos_token_id=assistant.config.llm.vocab_size)
        steps._layout = dataclasses.replace(steps._layout, tokens=never)
    words = "what colour is the red circle left of the blue square ?".split()
    questions = []
    for number in range(options.items):
        picture = Picture(
            str(number), data=folders.picture(number, size=(draw.randrange(16, 48), draw.randrange(16, 48)))
        )
        text = " ".join(draw.choice(words) for _ in range(draw.randrange(8, 60)))
        questions.append(answering.Question(Item(str(number), {}, (picture,)), text))
    asked = {batch: answering.Asked(subject, questions, batch) for batch in (options.batch, 1)}

    def seconds(batch: int) -> float:
        began = time.process_time()
        answering.answer(subject, assistant.params, asked[batch], Kept(), max_new_tokens=options.tokens, batch=batch)
        return time.process_time() - began

    for batch in asked:
        seconds(batch)  # compiles
    found = {batch: [] for batch in asked}
    for _ in range(options.rounds):
        for batch in asked:
            found[batch].append(seconds(batch))
    for batch, times in found.items():
        print(
            f"batch {batch}: {options.items / statistics.median(times):.1f} items per second of processor time, {times}"
        )
    print(f"ratio {statistics.median(b / a for a, b in zip(found[options.batch], found[1])):.2f}")


def products(counts: tuple[int, ...], rounds: int, pairs: int = 8, repeats: int = 60) -> None:
    """Prints processor time of x @ A @ B for so many rows, A [128, 384], B [384, 128], `pairs` of them one after another."""
    import jax
    import jax.numpy as jnp

    key = jax.random.key(0)
    weights = [(0.01 * jax.random.normal(key, (128, 384)) + i, 0.01 * jax.random.normal(key, (384, 128)) - i)
               for i in range(pairs)]  # fmt: skip

    @jax.jit
    def run(x: jax.Array, weights: list) -> jax.Array:
        def one(_: int, x: jax.Array) -> jax.Array:
            for a, b in weights:
                x = x + 1e-6 * jnp.matmul(jnp.matmul(x, a, precision="highest"), b, precision="highest")
            return x

        return jax.lax.fori_loop(0, repeats, one, x)

    found = {count: [] for count in counts}
    for _ in range(5 * rounds):
        for count, times in found.items():
            began = time.process_time()
            jax.block_until_ready(run(jnp.ones((count, 128)), weights))
            times.append((time.process_time() - began) / repeats / pairs)
    for count, times in found.items():
        print(f"{count} rows: {min(times) * 1e6:.1f} us a pair at least, {statistics.median(times) * 1e6:.1f} in the middle")
    each = [min(times) / count for count, times in found.items()]
    print(f"ratio a row {each[0] / each[-1]:.2f}")


if __name__ == "__main__":
    main()
