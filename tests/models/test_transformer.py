"""A cache that is written in place: the same numbers as one that new slots are joined to, and no copies of it in a loop."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.batch import TokenInfo
from sgt_jax.models import slots
from sgt_jax.models.bagel import sampling
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.models.stack import stacked
from sgt_jax.models.transformer import Cache, with_room
from tests.support import tiny_bagel

READ, HEADS, SIZE = 21, 2, 6


@functools.cache
def made(scan=False):
    """A model with two key-value heads, and its parameters."""
    llm = dict(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=HEADS,
        vocab_size=32,
    )  # fmt: skip
    params = tiny_bagel.random_params(tiny_bagel.config(llm=llm))
    if scan:
        params = params | {"decoder": stacked(params["decoder"])}
    return Bagel(tiny_bagel.config(llm=llm, scan_layers=scan)), params


def context(rows):
    """What so many rows have read: row i has i holes behind it."""
    draw = np.random.default_rng(0)
    keys, values = (tuple(draw.normal(size=(rows, READ, HEADS, SIZE)).astype(np.float32) for _ in range(2)) for _ in "kv")
    number = np.broadcast_to(np.arange(READ, dtype=np.int32), (rows, READ))
    lengths = READ - np.arange(rows, dtype=np.int32)
    real = (number < lengths[:, None]).astype(np.int32)
    info = TokenInfo(real, 0 * real, number, number, 0 * real)
    return sampling.Context(Cache(keys, values, info), 0 * lengths, lengths, lengths)


@pytest.mark.parametrize(("scan", "rows"), [(False, 3), (True, 1)])
def test_writing_first_gives_what_joining_gives(scan, rows):
    model, params = made(scan)
    read = context(rows)
    new = TokenInfo(*(x[:, None] for x in (1 + 0 * read.split, read.split, read.order, read.position, 0 * read.split)))
    none, token = TokenInfo(*(x[:, :0] for x in new)), np.arange(rows) + 3
    decode = jax.jit(lambda *given: model.decode(params, *given, return_kv=True))
    states = sampling._embed(model, params, token[:, None]), np.zeros((rows, 0, 24), np.float32), new, none
    h, _, aux = decode(*states, read.cache)
    for at in (None, read.order):  # behind all that was read, and where each row has its first hole
        open_cache = with_room(read.cache, 2, at)
        own, _, found = decode(*states, open_cache)
        np.testing.assert_allclose(own, h, atol=1e-5)
        after, places = found["cache"], np.full(rows, READ) if at is None else at
        np.testing.assert_array_equal(after.at, places + 1 if at is not None else READ + 1)
        for row, place in enumerate(places):
            for layer in range(2):
                keys = np.reshape(after.keys[layer], (rows, HEADS, READ + 2, SIZE))[row].swapaxes(0, 1)
                np.testing.assert_allclose(keys[place], aux["cache"].keys[layer][row, 0], atol=1e-5)
                old = read.cache.keys[layer][row, : read.order[row]]
                np.testing.assert_array_equal(keys[: read.order[row]], old)
            assert after.info.order[row, place] == read.order[row] and after.info.sample[row].sum() == read.order[row] + 1
    full = with_room(read.cache, 2, np.full(rows, READ + 2, np.int32))  # a row that has no place left stays as it is
    jax.tree.map(np.testing.assert_array_equal, decode(*states, full)[2]["cache"][:3], full[:3])


def texts(rows):
    """A loop that writes texts, and what it takes."""
    model, params = made()
    return lambda params, read: sampling.write_text(model, params, read, 28, 29, 9), params, context(rows)


def slots_of_a_server(rows):
    """The loop of an engine whose slots are of different ages, and what it takes."""
    model, params = made()
    read = context(rows)
    zero = np.zeros(rows, np.int32)
    opened = slots.opened(read.cache, np.zeros((rows, 32), np.float32), read[1:], zero, np.zeros(rows, np.float32))
    roomy = jax.eval_shape(lambda state: slots.empty(state, rows, READ + 8), opened)

    def run(params, state):
        def one(state, _):
            new = slots.next_info(state, jnp.ones(rows, bool))
            logits, cache = sampling.feed_one(model, params, state.token, new, state.cache)
            return slots.advanced(state, cache, logits), state.token

        return jax.lax.scan(one, state, length=8)

    return run, params, roomy


@pytest.mark.parametrize(("loop", "rows"), [(texts, 3), (texts, 1), (slots_of_a_server, 3)])
def test_a_step_copies_no_cache(loop, rows):
    run, *given = loop(rows)
    program = jax.jit(run).lower(*given).compile().as_text()
    names = set(re.findall(r"\bwhile\(.*body=%([\w.-]+)", program))  # of the loop, and of loops in it
    bodies = [re.search(rf"^%{re.escape(name)} .*?^}}", program, re.S | re.M)[0] for name in names]
    shape = rf"f32\[(?:\d+,)?{HEADS},{READ + 8},{SIZE}\]"
    assert any(re.search(rf"= {shape}\S* (fusion|while)\(", body) for body in bodies)  # what is written
    assert not [line for body in bodies for line in re.findall(rf"= {shape}\S* copy\(.*", body)]
