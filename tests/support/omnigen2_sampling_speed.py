"""Processor time of three ways to paint an edit with OmniGen2: the same weights and numbers, rounds in turns.

    python -m tests.support.omnigen2_sampling_speed SIDE CALLS

SIDE x SIDE latent tokens, as many of a reference, 32 words, three joint layers, two layers a refiner, six steps, three
branches of guidance. "once": branches as one batch, what they share computed once, as the sampler does. "every": one batch,
every branch computes all. "after": one branch after another. Prints the largest relative difference of results, and the
medians' ratios.
"""

import functools
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.models.family import by_name
from sgt_jax.models.omnigen2.steps import gen_lane
from tests.support import tiny_omnigen2

WORDS, STEPS, BRANCHES, ROUNDS = 32, 6, 3, 7
DIT = dict(
    patch_size=2, in_channels=2, hidden_size=48, num_layers=3, num_refiner_layers=2, num_attention_heads=4, num_kv_heads=2,
    multiple_of=16, axes_dim_rope=(4, 4, 4), text_feat_dim=16,
)  # fmt: skip


def lane(slots, split, rows=BRANCHES):
    """Facts of `rows` equal rows."""
    position = np.zeros((rows, slots, 3), np.int32)
    position[..., 0] = np.arange(slots)
    ones = np.ones((rows, slots), np.int32)
    return {"sample": ones, "split": ones * split, "flow": ones * 0, "position": position, "index": ones * 0}


def sampler(model, how, side, seed=0):
    """params -> latent tokens [1, side * side, 8]."""
    draw = np.random.default_rng(seed).standard_normal
    text, references, noise = (
        jnp.asarray(draw(shape), jnp.float32) for shape in ((BRANCHES, WORDS, 16), (1, side**2, 8), (1, side**2, 8))
    )
    lanes = [lane(WORDS, 0), lane(side**2, 1), gen_lane((side, side), jnp.full(BRANCHES, WORDS + side))]
    lanes[1]["sample"] = (
        lanes[1]["sample"] * (np.arange(BRANCHES) < BRANCHES - 1)[:, None]
    )  # the last sees no reference

    def part(x, i):
        return jax.tree.map(lambda x: jnp.asarray(x)[i : i + 1], x)

    def branches(run, facts, words, x, t, refined, rows, see):
        """Velocities of `rows` branches; `refined` words, where they are known."""
        active = run("time", jnp.full((rows, 1), t))
        parts = [run("read", words, facts[0]) if refined is None else refined]
        if see:
            parts.append(run("refine_references", jnp.tile(references, (rows, 1, 1)), active, facts[1]))
        parts.append(run("refine_noise", jnp.tile(x, (rows, 1, 1)), active, facts[2]))
        return run("velocity", parts, active, facts if see else [facts[0], facts[2]])[0]

    def velocities(run, x, t, refined):
        if how == "every":
            return branches(run, lanes, text, x, t, None, BRANCHES, True)
        if how == "after":
            alone = (
                branches(run, part(lanes, i), part(text, i), x, t, None, 1, i < BRANCHES - 1) for i in range(BRANCHES)
            )
            return jnp.concatenate(list(alone))
        active = run("time", jnp.full((1, 1), t))
        shared = (
            run("refine_references", references, active, part(lanes[1], 0)),
            run("refine_noise", x, active, part(lanes[2], 0)),
        )
        many = [jnp.tile(y, (BRANCHES, 1, 1)) for y in (*shared, active)]
        return run("velocity", [refined, *many[:2]], many[2], lanes)[0]

    def paint(params):
        def run(method, *arguments):
            return model.dit.apply({"params": params}, *arguments, method=method)

        refined, times = run("read", text, lanes[0]), jnp.linspace(0, 1, STEPS + 1)

        def step(x, pair):
            main, image, bare = jnp.split(velocities(run, x, pair[0], refined), BRANCHES)
            return x + (pair[1] - pair[0]) * (bare + 2 * (image - bare) + 5 * (main - image)), None

        return jax.lax.scan(step, noise, (times[:-1], times[1:]))[0]

    return jax.jit(paint)


def main(side, calls):
    model = by_name("omnigen2").model(tiny_omnigen2.config(dit=DIT))
    params = tiny_omnigen2.random_params(model)["dit"]
    ways = {how: functools.partial(sampler(model, how, int(side)), params) for how in ("once", "every", "after")}
    found = {how: np.asarray(paint()) for how, paint in ways.items()}
    worst = max(np.abs(x - found["once"]).max() / np.abs(found["once"]).max() for x in found.values())
    seconds = {how: [] for how in ways}
    for _ in range(ROUNDS):
        for how, paint in ways.items():
            began = time.process_time()
            for _ in range(int(calls)):
                jax.block_until_ready(paint())
            seconds[how].append(time.process_time() - began)
    median = {how: float(np.median(x)) for how, x in seconds.items()}
    print(f"{side}x{side} tokens: results differ by {worst:.1e}")
    print(f"every branch refines / once a step: {median['every'] / median['once']:.2f}")
    print(f"one branch after another / one batch: {median['after'] / median['once']:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
