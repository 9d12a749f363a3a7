"""The compilation cache: off unless asked for, JAX's own variable first, and the next process finds what one compiled."""

import os
import subprocess
import sys

import jax
import pytest

from sgt_jax.parallel.compiling import keep_compiled


@pytest.fixture
def settings(monkeypatch):
    """JAX's settings, put back afterwards."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield monkeypatch
    for name, value in before.items():
        jax.config.update(name, value)


def test_without_a_folder_nothing_changes(settings):
    before = jax.config.jax_compilation_cache_dir
    assert keep_compiled() == "" and jax.config.jax_compilation_cache_dir == before


def test_a_folder_is_made_absolute_and_the_environment_goes_before_it(settings, tmp_path):
    settings.chdir(tmp_path)
    assert keep_compiled("mine", seconds=0.5) == str(tmp_path / "mine") == jax.config.jax_compilation_cache_dir
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.5
    assert keep_compiled("gs://bucket/mine") == "gs://bucket/mine"
    settings.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "theirs"))
    settings.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "3")
    assert keep_compiled("mine", seconds=0.1) == str(tmp_path / "theirs") == jax.config.jax_compilation_cache_dir
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.5


CHILD = """
import logging, sys
import jax, jax.numpy as jnp
from sgt_jax.parallel.compiling import keep_compiled
keep_compiled(sys.argv[1], seconds=0)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3))).block_until_ready()
print(sum(name == "/jax/compilation_cache/cache_hits" for name in hits))
"""


def test_the_next_process_finds_what_one_compiled(tmp_path):
    free = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))}
    found = [
        int(subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "cache")], env=free | {"JAX_PLATFORMS": "cpu"},
                           capture_output=True, text=True, check=True).stdout)
        for _ in range(2)
    ]  # fmt: skip
    assert found[0] == 0 and found[1] > 0
