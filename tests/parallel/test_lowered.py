"""Lowered programs on disk: found again without tracing, made again where anything differs or is damaged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.inference.programs import Programs
from sgt_jax.parallel import lowered


@pytest.fixture
def folder(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / "programs"
    jax.config.update("jax_compilation_cache_dir", before)


class Traced:
    """A function that counts how often it is traced."""

    def __init__(self):
        self.times = 0

    def __call__(self, tree, x, add):
        self.times += 1
        return {"sum": tree["a"] + x, "more": (x * 2 + add,)}


def run(function, x, of="a model", add=1):
    programs = Programs(of=of)
    found = programs.run("sum", function, {"a": np.float32(1)}, x, add=add)
    assert programs.compiled == 1
    programs.close()
    return found


def test_the_next_process_does_not_trace_and_gets_the_same(folder):
    traced, x = Traced(), jnp.arange(3.0)
    first, second = run(traced, x), run(traced, x)
    assert traced.times == 1 and len(list(folder.iterdir())) == 1
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_whatever_differs_is_another_program(folder, monkeypatch):
    traced = Traced()
    run(traced, jnp.arange(3.0))
    run(traced, jnp.arange(4.0))
    run(traced, jnp.arange(3))
    run(traced, jnp.arange(3.0), of="another model")
    run(traced, jnp.arange(3.0), add=2)
    monkeypatch.setattr(lowered, "_source", lambda: "other source")
    run(traced, jnp.arange(3.0))
    assert traced.times == 6 == len(list(folder.iterdir()))


def test_damage_is_compiled_again_and_nothing_is_kept_without_a_name_or_a_folder(folder):
    traced, x = Traced(), jnp.arange(3.0)
    run(traced, x)
    (entry,) = folder.iterdir()
    for content in (b"", b"nonsense", entry.read_bytes()[:-100]):
        entry.write_bytes(content)
        np.testing.assert_array_equal(run(traced, x)["sum"], [1, 2, 3])
    assert traced.times == 4
    run(traced, x, of="")
    jax.config.update("jax_compilation_cache_dir", None)
    run(traced, x)
    assert traced.times == 6 and len(list(folder.iterdir())) == 1


def test_what_was_unused_for_longest_goes_first(folder, monkeypatch):
    traced = Traced()
    run(traced, jnp.arange(3.0))
    (first,) = folder.iterdir()
    monkeypatch.setattr(lowered, "LIMIT", int(1.5 * first.stat().st_size))
    run(traced, jnp.arange(4.0))
    assert first not in folder.iterdir() and len(list(folder.iterdir())) == 1


def test_a_folder_that_cannot_be_written_costs_nothing_else(folder):
    folder.write_text("a file in its place")
    traced = Traced()
    np.testing.assert_array_equal(run(traced, jnp.arange(3.0))["sum"], [1, 2, 3])
    assert traced.times == 1
