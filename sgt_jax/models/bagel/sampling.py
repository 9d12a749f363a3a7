"""Talking and painting with a BAGEL model: a static key-value cache, one compiled loop each, branches as one batch.

Pure functions, to be compiled by the caller; `steps.py` does that, and `inference/sampler.py` for lists of plans.

A *context* is everything read so far, one sample per row. Its cache keeps keys, values and the TokenInfo of every slot,
so that the training mask is also the inference mask, and padding inside the cache needs no care.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sgt_jax.batch import CAUSAL, NOISE, PackedBatch, TokenInfo
from sgt_jax.data.layouts.bagel import table_positions
from sgt_jax.models.bagel.guidance import Guidance, branch_names
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.models.transformer import Cache, OpenCache, with_room


class Context(NamedTuple):
    """What B rows have read, and where the next split goes.

    Attributes:
      cache: keys, values and facts of T slots (holes included: sample 0).
      split, order, position: [B], of the next slot to be appended.
    """

    cache: Cache
    split: jax.Array
    order: jax.Array
    position: jax.Array


def read(
    model: Bagel, params: Any, batch: PackedBatch, vae_noise: dict[str, jax.Array], distinct: int | None = None
) -> Context:
    """Runs the model over contexts (clean pictures and texts), one per row, and keeps keys and values.

    Args:
      model, params: the model.
      batch: one sample per row; its pictures for the autoencoder are clean.
      vae_noise: posterior noise per canvas, {"HxW": [B, n, h, w, z]}.
      distinct: the pictures of so many rows, the first ones, go through the encoders, and the other rows repeat them. Each
        of the others holds the pictures of its row of the first ones, in the same slots, or none; B by default.
    """
    return read_with_states(model, params, batch, vae_noise, distinct)[0]


def read_with_states(
    model: Bagel, params: Any, batch: PackedBatch, vae_noise: dict[str, jax.Array], distinct: int | None = None
) -> tuple[Context, jax.Array]:
    """As `read`, and the final states [B, U, width] of lane "und"."""
    und, gen = TokenInfo.of(batch["und"]), TokenInfo.of(batch["gen"])
    rows = und.sample.shape[0]
    own = batch if distinct is None else jax.tree.map(lambda x: x[:distinct], batch)

    def repeated(x: jax.Array) -> jax.Array:
        return jnp.tile(x, (rows // x.shape[0], *(1 for _ in x.shape[1:])))

    seen = repeated(model.see(params, own["vit"])["tokens"]) if batch["vit"]["sample"].shape[1] else None
    x_und = model.embed_und(params, batch["und"], seen)
    latents = repeated(model.clean_latents(params, own, {"vae": vae_noise}))
    x_gen = model.embed_gen(params, latents, jnp.zeros(latents.shape[:2]), batch["gen"]["table"])
    states, _, aux = model.decode(params, x_und, x_gen, und, gen, return_kv=True)
    info = aux["cache"].info

    def following(values: jax.Array) -> jax.Array:
        return jnp.max(jnp.where(info.sample > 0, values, -1), axis=1, initial=-1) + 1

    return Context(aux["cache"], following(info.split), following(info.order), following(info.position)), states


def _embed(model: Bagel, params: Any, token: jax.Array) -> jax.Array:
    return model.embed_und(params, {"token": token, "vit": jnp.full_like(token, -1)}, None)


class Writing(NamedTuple):
    """The state of a loop that writes texts of B rows.

    Attributes:
      step: how many tokens were fed.
      token: [B], what is fed next.
      done: bool [B], rows whose text has ended.
      ids: [B, max_length], the tokens fed.
      logits: [B, max_length, V] of every step, or None.
      cache: what was read and fed; slots that are still to be fed are holes.
    """

    step: jax.Array
    token: jax.Array
    done: jax.Array
    ids: jax.Array
    logits: jax.Array | None
    cache: OpenCache


def write_text(
    model: Bagel,
    params: Any,
    context: Context,
    bos: int,
    eos: int,
    max_length: int,
    pick: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    active: jax.Array | None = None,
    trace: bool = False,
    notify: Callable[[Any], None] | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Generates text after contexts, feeding one token a step into a cache of fixed size; the last is not fed.

    Args:
      model, params, context: the model and what it has read.
      bos, eos: ids that open and end a text.
      max_length: tokens at most, bos included.
      pick: (logits [B, V], step) -> ids [B]; greedy by default.
      active: bool [B], rows that want a text; the others count as done at once. All by default.
      trace: keep the logits of every step (large: max_length rows of the vocabulary); then the last token is fed, too.
      notify: called on the host with the number of every step, for a progress bar.

    Returns:
      ids int32 [B, max_length]: the tokens written, bos first; everything after the last is eos.
      count int32 [B]: how many were written. With `trace` logits float32 [B, max_length, V] of every
      step (zeros where none was needed), else None.
    """
    batch = len(context.split)
    pick = pick or (lambda logits, step: jnp.argmax(logits, axis=-1))
    steps = max_length if trace else max_length - 1  # what would follow the last token is not asked for

    def more(state: Writing) -> jax.Array:
        return (state.step < steps) & ~jnp.all(state.done)

    def feed(state: Writing) -> Writing:
        if notify is not None:
            jax.debug.callback(notify, state.step)
        return _feed(model, params, context, eos, pick, state)

    start = Writing(
        step=jnp.int32(0),
        token=jnp.full((batch,), bos, jnp.int32),
        done=jnp.zeros((batch,), bool) if active is None else ~active,
        ids=jnp.full((batch, max_length), eos, jnp.int32),
        logits=jnp.zeros((batch, max_length, model.config.llm.vocab_size), jnp.float32) if trace else None,
        cache=with_room(context.cache, steps),
    )
    final = jax.lax.while_loop(more, feed, start)
    ids = final.ids if trace else final.ids.at[:, -1].set(jnp.where(final.done, eos, final.token))
    return ids, jnp.sum(ids != eos, axis=1), final.logits


def feed_one(model: Bagel, params: Any, token: jax.Array, new: TokenInfo, past: OpenCache) -> tuple[jax.Array, OpenCache]:
    """Feeds one token a row: float32 logits [B, V] of what follows, and the cache with it."""
    batch = token.shape[0]
    nothing = TokenInfo(*(jnp.zeros((batch, 0), jnp.int32),) * 5)
    x = _embed(model, params, token[:, None])
    no_latents = jnp.zeros((batch, 0, model.config.llm.hidden_size), x.dtype)
    h, _, aux = model.decode(params, x, no_latents, new, nothing, past)
    return model.logits(params, h)[:, 0], aux["cache"]


def _feed(
    model: Bagel, params: Any, context: Context, eos: int, pick: Callable[[jax.Array, jax.Array], jax.Array],
    state: Writing,
) -> Writing:  # fmt: skip
    """Feeds one token a row."""
    step, token, done, ids, all_logits, past = state
    batch = token.shape[0]
    column = jnp.ones((batch, 1), jnp.int32)
    new = TokenInfo(
        sample=jnp.where(done[:, None], 0, column),
        split=context.split[:, None],
        order=(context.order + step)[:, None],
        position=(context.position + step)[:, None],
        mode=CAUSAL * column,
    )
    logits, cache = feed_one(model, params, token, new, past)
    following = jnp.where(done, eos, pick(logits, step)).astype(jnp.int32)
    return Writing(
        step + 1,
        following,
        done | (following == eos),
        ids.at[:, step].set(jnp.where(done, eos, token)),
        None if all_logits is None else all_logits.at[:, step].set(jnp.where(done[:, None], 0, logits)),
        cache,
    )


def denoise(
    model: Bagel,
    params: Any,
    context: Context,
    noise: jax.Array,
    grid: tuple[int, int],
    times: jax.Array,
    guidance: Guidance,
    soi: int,
    eoi: int,
    trace: bool = False,
    notify: Callable[[Any], None] | None = None,
) -> Any:
    """Paints pictures by Euler steps from noise; every branch of guidance is evaluated in one batch.

    At times outside the guidance's interval the main branch alone is evaluated.

    Args:
      model, params: the model.
      context: of K*B rows: B main contexts, then B no-text and B no-image contexts where guidance uses them.
      noise: [B, n, F], the initial latent tokens.
      grid: (rows, columns) of the latent grid, n = rows * columns.
      times: decreasing times from 1 to 0, as `time_grid` makes them.
      guidance: how to combine the branches.
      soi, eoi: ids of the markers around the picture.
      trace: also return the latents before every step and the guided velocities.
      notify: called on the host with every time t, for a progress bar.

    Returns:
      latent tokens [B, n, F]; with `trace` (latents, x [steps, B, n, F], v [steps, B, n, F]).
    """
    branches = branch_names(guidance)
    count = noise.shape[0]
    if context.split.shape[0] != count * len(branches):
        raise ValueError(f"{context.split.shape[0]} contexts for {len(branches)} branches of {count} pictures")
    guided, after_main = _velocities(model, params, context, count, grid, branches, guidance, soi, eoi)

    def step(x: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple]:
        t, following = pair
        if notify is not None:
            jax.debug.callback(notify, t)
        if len(branches) == 1 or (guidance.low <= 0 and guidance.high >= 1):
            v = guided(x, t)
        else:  # a true branch, not a mask: t is one number for the whole batch
            v = jax.lax.cond(guidance.acts(t), guided, after_main, x, t)
        return x - v * (t - following), (x, v) if trace else ()

    final, history = jax.lax.scan(step, noise.astype(jnp.float32), (times[:-1], times[1:]))
    return (final, *history) if trace else final


def euler_step(
    model: Bagel, params: Any, context: Context, x: jax.Array, grid: tuple[int, int], times: jax.Array, kind: Guidance,
    guidance: Guidance, soi: int, eoi: int,
) -> jax.Array:  # fmt: skip
    """One step of `denoise`, from times[0] to times[1]; the numbers of `guidance` may be traced, `kind` says its branches."""
    branches, (t, following) = branch_names(kind), times
    guided, after_main = _velocities(model, params, context, len(x), grid, branches, guidance, soi, eoi)
    if len(branches) == 1:
        return x - guided(x, t) * (t - following)
    # A kind with more branches than a request asked for runs with a scale of 1.
    acts = guidance.acts(t) & (guidance.text_scale > 1)
    return x - jax.lax.cond(acts, guided, after_main, x, t) * (t - following)


def _velocities(
    model: Bagel, params: Any, context: Context, count: int, grid: tuple[int, int], branches: tuple[str, ...],
    guidance: Guidance, soi: int, eoi: int,
) -> tuple[Callable[[jax.Array, jax.Array], jax.Array], Callable[[jax.Array, jax.Array], jax.Array]]:  # fmt: skip
    """(x [count, n, F], time) -> velocity, with all branches of guidance, and of the main branch alone."""
    after_all = velocity_after(model, params, context, grid, soi, eoi)

    def guided(x: jax.Array, t: jax.Array) -> jax.Array:
        found = dict(zip(branches, jnp.split(after_all(jnp.tile(x, (len(branches), 1, 1)), t), len(branches))))
        return guidance.combine(t, found["main"], found.get("text"), found.get("image"))

    return guided, velocity_after(model, params, first_rows(context, count), grid, soi, eoi)


def first_rows(context: Context, count: int) -> Context:
    """The contexts of the first rows."""
    cache = context.cache
    stacked = not isinstance(cache.keys, tuple)
    keys, values = (x[:, :count] if stacked else tuple(y[:count] for y in x) for x in (cache.keys, cache.values))
    info = TokenInfo(*(x[:count] for x in cache.info))
    return Context(Cache(keys, values, info), context.split[:count], context.order[:count], context.position[:count])


def velocity_after(
    model: Bagel, params: Any, context: Context, grid: tuple[int, int], soi: int, eoi: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A function (latents [B, n, F], time t) -> velocities [B, n, F] of B pictures, each after its own context."""
    rows, n = context.split.shape[0], grid[0] * grid[1]

    def facts(order: jax.Array) -> TokenInfo:
        slots = jnp.ones((rows, order.shape[0]), jnp.int32)
        return TokenInfo(
            sample=slots,
            split=context.split[:, None] * slots,
            order=context.order[:, None] + order[None],
            position=context.position[:, None] * slots,
            mode=NOISE * slots,
        )

    und, gen = facts(jnp.asarray([0, n + 1])), facts(1 + jnp.arange(n))
    markers = _embed(model, params, jnp.tile(jnp.asarray([[soi, eoi]]), (rows, 1)))
    table = jnp.asarray(table_positions(*grid, model.config.max_latent_size, model.config.interpolate_pos))
    table = jnp.broadcast_to(table, (rows, n))

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        x_gen = model.embed_gen(params, x, jnp.full((rows, n), t), table)
        _, h, _ = model.decode(params, markers, x_gen, und, gen, context.cache)
        return model.velocity(params, h)

    return velocity
