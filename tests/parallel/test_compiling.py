"""The compilation cache: on by default, bounded, JAX's own variable first; bad entries and two processes do no harm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from sgt_jax.errors import ConfigError
from sgt_jax.parallel.compiling import LIMIT, compilation_cache, user_folder

NAMES = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs", "jax_compilation_cache_max_size")


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """No variable is set, the user's folder is a temporary one, and JAX's settings are put back afterwards."""
    for name in ("SGT_COMPILATION_CACHE", *(name.upper() for name in NAMES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    before = {name: getattr(jax.config, name) for name in NAMES}
    yield monkeypatch
    for name, value in before.items():
        jax.config.update(name, value)


def test_by_default_it_is_the_users_folder_below_two_gigabytes(settings, tmp_path):
    assert compilation_cache() == str(user_folder()) == jax.config.jax_compilation_cache_dir
    assert user_folder().is_relative_to(tmp_path / "home" / "sgt_jax") and user_folder().is_dir()
    assert jax.config.jax_compilation_cache_max_size == LIMIT == 2 << 30


def test_off_changes_nothing(settings):
    before = [getattr(jax.config, name) for name in NAMES]
    settings.setenv("SGT_COMPILATION_CACHE", "off")
    assert compilation_cache("mine") == "" and [getattr(jax.config, name) for name in NAMES] == before


def test_a_folder_is_made_absolute_and_the_environment_goes_before_it(settings, tmp_path):
    settings.chdir(tmp_path)
    before = jax.config.jax_compilation_cache_max_size
    assert compilation_cache("mine", seconds=0.5) == str(tmp_path / "mine") == jax.config.jax_compilation_cache_dir
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.5
    assert compilation_cache("gs://bucket/mine") == "gs://bucket/mine"
    assert jax.config.jax_compilation_cache_max_size == before  # a folder of one's own is not cut
    settings.setenv("SGT_COMPILATION_CACHE", str(tmp_path / "ours"))
    assert compilation_cache("mine") == str(tmp_path / "ours")
    settings.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "theirs"))
    settings.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "3")
    assert compilation_cache("mine", seconds=0.7) == str(tmp_path / "theirs") == jax.config.jax_compilation_cache_dir
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.1  # of the call before


def test_a_folder_that_cannot_be_made(settings, tmp_path):
    (tmp_path / "home").write_text("a file")
    assert compilation_cache() == ""  # nobody asked for that one
    with pytest.raises(ConfigError, match="cannot be made"):
        compilation_cache(tmp_path / "home" / "mine")


CHILD = """
import json, sys
from sgt_jax.parallel.compiling import compilation_cache
assert "jax" not in sys.modules
compilation_cache(seconds=0)
import jax, jax.numpy as jnp
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
x = jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
print(json.dumps([sum(name == "/jax/compilation_cache/cache_hits" for name in hits), float(x.sum())]))
"""


def start(folder: Path, size: int | None = None) -> subprocess.Popen:
    free = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))}
    free |= {"JAX_PLATFORMS": "cpu", "SGT_COMPILATION_CACHE": str(folder)}
    if size is not None:
        free["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(size)
    return subprocess.Popen([sys.executable, "-c", CHILD], env=free, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def answer(child: subprocess.Popen) -> tuple[int, float]:
    """(programs that it found in the cache, its result)."""
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err.decode()
    return tuple(json.loads(out))


def test_two_processes_at_once_then_a_hit_then_damage_then_a_bound(tmp_path):
    folder = tmp_path / "cache"
    first, second = start(folder), start(folder)
    (_, value), (_, other) = answer(first), answer(second)
    entries = sorted(folder.glob("*-cache"))
    assert entries and value == other

    hits, found = answer(start(folder))
    assert hits > 0 and found == value

    for entry in entries:  # cut off in the middle, as by a full disk
        entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    _, found = answer(start(folder))
    assert found == value

    answer(start(tmp_path / "small", size=1))  # nothing fits
    assert not list((tmp_path / "small").glob("*-cache"))
