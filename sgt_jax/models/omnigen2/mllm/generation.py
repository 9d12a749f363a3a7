"""Writing text with Qwen2.5-VL: a static key-value cache and one compiled loop. Pure functions, compiled by the caller."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sgt_jax.batch import CAUSAL, TokenInfo
from sgt_jax.models.omnigen2.mllm.model import Mllm
from sgt_jax.models.transformer import Cache, OpenCache, with_room

Pick = Callable[[jax.Array, jax.Array], jax.Array]  # (logits [B, V], step) -> ids [B]


class Prompt(NamedTuple):
    """What B rows have read, one sample each.

    Attributes:
      cache: keys, values and facts of T slots (holes included: sample 0).
      hidden: [B, T, width], the states after the final norm.
      logits: float32 [B, V], of what follows.
      order: [B], number of the next slot.
      position: [B], rotary position of the next token, the same in all three components.
    """

    cache: Cache
    hidden: jax.Array
    logits: jax.Array
    order: jax.Array
    position: jax.Array


def read(mllm: Mllm, params: Any, und: Mapping[str, jax.Array], seen: jax.Array | None) -> Prompt:
    """Runs the model over prompts, one sample per row, and keeps keys and values; see `Mllm.hidden`."""
    info = TokenInfo.of(und)
    h, aux = mllm.run(params, mllm.embed(params, und, seen), info, return_kv=True)
    real = info.sample > 0
    order = jnp.where(real, info.order, -1)
    last = jnp.argmax(order, axis=1)
    final = jnp.take_along_axis(h, last[:, None, None], axis=1)[:, 0]
    following = jnp.max(jnp.where(real[..., None], info.position, -1), axis=(1, 2)) + 1
    return Prompt(aux["cache"], h, mllm.logits(params, final), jnp.max(order, axis=1) + 1, following)


class _Writing(NamedTuple):
    """`step` tokens are written; `logits` [B, V] are of the next one; slots still to be written are holes of `cache`."""

    step: jax.Array
    done: jax.Array
    ids: jax.Array
    logits: jax.Array
    history: jax.Array | None
    cache: OpenCache


def write(
    mllm: Mllm, params: Any, prompt: Prompt, stop: Sequence[int], max_length: int, pick: Pick | None = None,
    active: jax.Array | None = None, trace: bool = False, notify: Callable[[Any], None] | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:  # fmt: skip
    """Writes texts after prompts, one token a step into a cache of fixed size.

    Args:
      stop: ids that end a text; a text keeps the one that ended it. The first one also fills the rows.
      max_length: tokens at most, the last one included.
      pick: greedy by default.
      active: bool [B], rows that want a text; all by default.
      trace: keep the logits of every step (large: max_length rows of the vocabulary).
      notify: called on the host with the number of every step.

    Returns:
      ids int32 [B, max_length]; how many of them count, [B]; with `trace` float32 [B, max_length, V] (zeros after the
      end), else None.
    """
    rows = len(prompt.order)
    pick = pick or (lambda logits, step: jnp.argmax(logits, axis=-1))
    ends, vocabulary = jnp.asarray(stop, jnp.int32), prompt.logits.shape[-1]

    def one(state: _Writing) -> _Writing:
        step, done, ids, logits, history, cache = state
        if notify is not None:
            jax.debug.callback(notify, step)
        token = jnp.where(done, ends[0], pick(logits, step)).astype(jnp.int32)
        if history is not None:
            history = history.at[:, step].set(jnp.where(done[:, None], 0, logits))
        ids = ids.at[:, step].set(token)
        closed = done | jnp.any(token[:, None] == ends, axis=1)
        logits, cache = _feed(mllm, params, prompt, token, ~closed, step, cache)
        return _Writing(step + 1, closed, ids, logits, history, cache)

    start = _Writing(
        step=jnp.int32(0),
        done=jnp.zeros((rows,), bool) if active is None else ~active,
        ids=jnp.full((rows, max_length), ends[0]),
        logits=prompt.logits,
        history=jnp.zeros((rows, max_length, vocabulary), jnp.float32) if trace else None,
        cache=with_room(prompt.cache, max_length),
    )
    final = jax.lax.while_loop(lambda s: (s.step < max_length) & ~jnp.all(s.done), one, start)
    ended = jnp.any(final.ids[..., None] == ends, axis=-1)
    count = jnp.where(jnp.any(ended, axis=1), jnp.argmax(ended, axis=1) + 1, max_length)
    return final.ids, count if active is None else jnp.where(active, count, 0), final.history


def feed_one(mllm: Mllm, params: Any, token: jax.Array, new: TokenInfo, past: OpenCache) -> tuple[jax.Array, OpenCache]:
    """Feeds one token a row: float32 logits [B, V] of what follows, and the cache with it."""
    text = {"token": token[:, None], "image": jnp.full_like(token, -1)[:, None]}
    h, aux = mllm.run(params, mllm.embed(params, text, None), new, past)
    return mllm.logits(params, h[:, 0]), aux["cache"]


def _feed(
    mllm: Mllm, params: Any, prompt: Prompt, token: jax.Array, going: jax.Array, step: jax.Array, past: OpenCache
) -> tuple[jax.Array, OpenCache]:
    """Logits after one more token a row, and the cache with it; rows that are not `going` add a hole."""
    column = jnp.ones((token.shape[0], 1), jnp.int32)
    new = TokenInfo(
        sample=jnp.where(going[:, None], past.info.sample.max(axis=1, keepdims=True), 0),
        split=jnp.max(prompt.cache.info.split, axis=1, keepdims=True),
        order=(prompt.order + step)[:, None],
        position=jnp.broadcast_to((prompt.position + step)[:, None, None], (*column.shape, 3)),
        mode=CAUSAL * column,
    )
    return feed_one(mllm, params, token, new, past)
