"""The compilation cache on disk: what one process has compiled, the next one finds."""

import os

import jax

_FOLDER = "JAX_COMPILATION_CACHE_DIR"
_SECONDS = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


def keep_compiled(folder: str | os.PathLike = "", seconds: float | None = None) -> str:
    """Keeps compiled programs in a folder from now on, and takes them from there; no number depends on it.

    JAX's own variable JAX_COMPILATION_CACHE_DIR goes before `folder`: whoever sets it wants one cache for everything. If
    neither is set, nothing is kept on disk. Call it before the first compilation.

    Args:
      folder: of the cache, made when it is needed; "" for none. Several processes may share it.
      seconds: programs that compile faster are not kept (JAX's default: 1); JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS
        goes before it.

    Returns:
      The folder in use, "" for none.
    """
    chosen = os.environ.get(_FOLDER) or os.fspath(folder)
    if not chosen:
        return ""
    if "://" not in chosen:
        chosen = os.path.abspath(chosen)
    jax.config.update("jax_compilation_cache_dir", chosen)
    if seconds is not None and _SECONDS not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
    return chosen
