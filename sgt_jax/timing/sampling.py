"""Times what the key-value cache and batched guidance save."""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def time_text(model: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Cached decoding against reading the whole context again for every token."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from sgt_jax.batch import TokenInfo
    from sgt_jax.models.bagel import sampling

    bagel, tokens, batch = model.model, model.tokenizer, options.batch
    packed = _rows(model, ("main",), options)
    never = model.config.llm.vocab_size  # no id: both sides write all tokens

    @jax.jit
    def cached(params: Any) -> jax.Array:
        context = sampling.read(bagel, params, packed, {})
        return sampling.write_text(bagel, params, context, tokens.bos, never, options.tokens)[0]

    @jax.jit
    def recomputed(params: Any) -> jax.Array:
        seen = bagel.see(params, packed["vit"])["tokens"]
        read = TokenInfo.of(packed["und"])
        used = read.sample.shape[1]

        def following(values: Any) -> jax.Array:
            return jnp.max(jnp.where(read.sample > 0, values, -1), axis=1) + 1

        split, order, position = (following(x) for x in (read.split, read.order, read.position))
        new = jnp.arange(options.tokens)[None]

        def one(step: jax.Array, ids: jax.Array) -> jax.Array:
            own = TokenInfo(
                sample=jnp.broadcast_to(new <= step, ids.shape[:1] + new.shape[1:]).astype(jnp.int32),
                split=jnp.broadcast_to(split[:, None], (batch, options.tokens)),
                order=order[:, None] + new,
                position=position[:, None] + new,
                mode=jnp.zeros((batch, options.tokens), jnp.int32),
            )
            info = TokenInfo(*(jnp.concatenate(pair, axis=1) for pair in zip(read, own)))
            und = {
                "token": jnp.concatenate([packed["und"]["token"], ids], axis=1),
                "vit": jnp.concatenate([packed["und"]["vit"], jnp.full_like(ids, -1)], axis=1),
            }
            x = bagel.embed_und(params, und, seen)
            empty = TokenInfo(*(jnp.zeros((batch, 0), jnp.int32),) * 5)
            h, _, _ = bagel.decode(params, x, jnp.zeros((batch, 0, x.shape[2]), x.dtype), info, empty)
            last = jax.lax.dynamic_index_in_dim(h, used + step, axis=1, keepdims=False)
            best = jnp.argmax(bagel.logits(params, last), axis=-1).astype(jnp.int32)
            return jnp.where(new == step + 1, best[:, None], ids)

        start = jnp.where(new == 0, tokens.bos, 0) * jnp.ones((batch, 1), jnp.int32)
        return jax.lax.fori_loop(0, options.tokens, one, start)

    slow, fast, (a, b) = _compare(recomputed, cached, model.params, options.repeats)
    return {
        "what": f"{batch} texts of {options.tokens} tokens after {packed['und']['sample'].shape[1]} slots: "
        "everything read again / cached",
        "slow_s": slow, "fast_s": fast, "factor": slow / fast, "equal": bool(np.array_equal(a, b)),
    }  # fmt: skip


def time_picture(model: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Guidance with its three branches as one batch against one after another."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from sgt_jax.models.bagel import guidance as bagel_guidance
    from sgt_jax.models.bagel import sampling

    bagel, tokens, batch = model.model, model.tokenizer, options.batch
    guidance = bagel_guidance.Guidance(4.0, 2.0, 0.0, 1.0, "text_channel")
    names = bagel_guidance.branch_names(guidance)
    packed = _rows(model, names, options)
    side = min(model.config.max_latent_size, 32)
    grid = (side, side)
    times = jnp.asarray(bagel_guidance.time_grid(options.steps, 3.0))
    noise = jax.random.normal(jax.random.key(0), (batch, side * side, model.config.latent_width))

    @jax.jit
    def together(params: Any) -> jax.Array:
        context = sampling.read(bagel, params, packed, {})
        return sampling.denoise(bagel, params, context, noise, grid, times, guidance, tokens.soi, tokens.eoi)

    @jax.jit
    def in_turn(params: Any) -> jax.Array:
        context = sampling.read(bagel, params, packed, {})
        parts = [_part(context, slice(i * batch, (i + 1) * batch)) for i in range(len(names))]
        branches = [sampling.velocity_after(bagel, params, part, grid, tokens.soi, tokens.eoi) for part in parts]

        def step(x: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            t, following = pair
            found = []
            for branch in branches:
                # The barrier keeps the compiler from merging or overlapping the branches.
                x, *found = jax.lax.optimization_barrier((x, *found, branch(x, t)))
            return x - guidance.combine(t, *found) * (t - following), None

        return jax.lax.scan(step, noise, (times[:-1], times[1:]))[0]

    slow, fast, (a, b) = _compare(in_turn, together, model.params, options.repeats)
    return {
        "what": f"{batch} guided pictures of {side * side} latent tokens, {options.steps} steps, {len(names)} branches: "
        "one after another / one batch",
        "slow_s": slow, "fast_s": fast, "factor": slow / fast,
        "equal": bool(np.allclose(a, b, atol=1e-3 * float(np.abs(a).max()))),
    }  # fmt: skip


def _part(context: Any, rows: slice) -> Any:
    """Some rows of a context; layers first, whether they are stacked or not."""
    cache = context.cache
    keys, values = (tuple(x[layer][rows] for layer in range(len(x))) for x in (cache.keys, cache.values))
    info = type(cache.info)(*(x[rows] for x in cache.info))
    return type(context)(type(cache)(keys, values, info), *(x[rows] for x in context[1:]))


def _rows(model: Any, names: Sequence[str], options: argparse.Namespace) -> Any:
    """Contexts [photo through the ViT] [question] for every branch, B rows each; the photo is noise of the ViT's size."""
    import numpy as np

    from sgt_jax.data import packing
    from sgt_jax.data.tasks import condition_items
    from sgt_jax.models.bagel import guidance as bagel_guidance

    side = min(model.config.vit_max_num_patch_per_side, 16) * model.config.vit.patch_size
    photo = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    plan = condition_items([photo, "what is in the picture ?"], model.tokenizer.encode, see=lambda picture: picture)
    branches = bagel_guidance.branch_plans(plan)
    layout = model.layout(())
    laid = [layout.lay_out(tuple(branches[name])) for name in names for _ in range(options.batch)]
    return packing.stack_samples(laid, layout.spec, packing.lane_budgets(laid, layout.spec))


def _compare(
    slow: Callable[[Any], Any], fast: Callable[[Any], Any], params: Any, repeats: int
) -> tuple[float, float, tuple[Any, Any]]:
    """Median seconds of both, timed in turns after one run each for compiling, and what they returned."""
    import jax

    results = tuple(jax.device_get(f(params)) for f in (slow, fast))
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for f, taken in zip((slow, fast), seconds):
            start = time.perf_counter()
            jax.block_until_ready(f(params))
            taken.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1]), results
