"""Memory of traced programs against sums done by hand."""

import jax
import jax.numpy as jnp
import pytest

from sgt_jax.planning.liveness import temporaries

SIDE = 64
X = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32)
ARRAY = 4 * SIDE**2


def held(function, *arguments):
    return temporaries(jax.make_jaxpr(function)(*arguments)) / ARRAY


def test_an_array_lives_from_its_product_to_its_last_reader():
    assert held(lambda x: x @ x, X) == 1
    assert held(lambda x: x @ x @ x @ x, X) == 2  # two at a time, however long the chain
    assert held(lambda x: [y := x @ x, z := y @ x, z @ x + y], X) == 3  # the results stay

    def skip(x):
        y = x @ x
        return x @ (x @ (x @ x)) + y  # y waits for the others

    assert held(skip, X) == 3


def test_what_is_element_wise_takes_nothing_and_keeps_what_it_reads():
    assert held(lambda x: jnp.tanh(x) * 2 + x, X) == 0
    assert held(lambda x: jnp.sum(jnp.exp(x @ x)), X) == pytest.approx(1, abs=0.01)
    late = lambda x: [y := jnp.tanh(x @ x), x @ x @ x @ y][1]  # noqa: E731
    assert held(late, X) == 3


def test_calls_are_part_of_their_program():
    inner = jax.jit(lambda x: x @ x)
    assert held(lambda x: inner(inner(inner(x))), X) == held(lambda x: x @ x @ x @ x, X) + 0 == 2
    assert held(jax.checkpoint(lambda x: jnp.tanh(x @ x) @ x), X) == 2


def test_a_loop_needs_one_round_and_its_slice_of_what_it_runs_over():
    weights = jax.ShapeDtypeStruct((10, SIDE, SIDE), jnp.float32)

    def body(x, w):
        return jnp.tanh(x @ w) @ w, None

    # The carried array, the slice, and two products.
    assert held(lambda x, w: jax.lax.scan(body, x, w)[0], X, weights) == 4
    # What it stacks is an array, too, unless nobody reads it.
    stack = lambda x, w: (x @ w, x)  # noqa: E731
    assert held(lambda x, w: jax.lax.scan(stack, x, w), X, weights) == 10 + 1 + 1 + 1
    assert held(lambda x, w: jax.lax.scan(stack, x, w)[0], X, weights) == 1 + 1 + 1


def test_of_a_choice_the_dearest_branch_counts():
    choice = lambda x: jax.lax.cond(x[0, 0] > 0, lambda: x @ x @ x @ x, lambda: x)  # noqa: E731
    assert held(choice, X) == 1 + 2


def test_an_update_takes_the_place_of_what_it_changes():
    def update(x):
        y = x @ x
        return jax.lax.dynamic_update_slice(y, x[:1], (3, 0))

    assert held(update, X) == 1
    assert held(lambda x: jax.lax.dynamic_update_slice(x, x[:1], (3, 0)), X) == 1  # an argument is not overwritten
