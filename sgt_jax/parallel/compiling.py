"""The compilation cache on disk: what one process has compiled, the next one finds. Imports no JAX, which takes a second."""

import hashlib
import os
import platform
import sys
from pathlib import Path

from sgt_jax.errors import ConfigError

OFF = "off"
LIMIT = 2 << 30  # bytes of the user's cache; what was unused for longest goes first
_SGT = "SGT_COMPILATION_CACHE"
_FOLDER = "JAX_COMPILATION_CACHE_DIR"
_SECONDS = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
_SIZE = "JAX_COMPILATION_CACHE_MAX_SIZE"


def compilation_cache(folder: str | os.PathLike = "", seconds: float = 0.1) -> str:
    """Keeps compiled programs in a folder from now on, and takes them from there; no number depends on it.

    The folder is the first of these: JAX_COMPILATION_CACHE_DIR, as whoever sets it wants one cache for everything;
    SGT_COMPILATION_CACHE, a folder or "off"; `folder`; the user's cache. The second and the last are kept below 2 GB.
    Several processes may share a folder, and an entry that cannot be read is compiled again. Call this before the first
    compilation.

    Args:
      folder: of the cache, made when it is needed; "" for the user's.
      seconds: programs that compile faster are not kept; JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS goes before it.

    Returns:
      The folder in use; "" for none, also where the user's cannot be made.

    Raises:
      ConfigError: a folder that was asked for cannot be made.
    """
    users = os.environ.get(_SGT) or ("" if os.fspath(folder) else str(user_folder()))
    if users == OFF and _FOLDER not in os.environ:
        return ""
    chosen = os.environ.get(_FOLDER) or users or os.fspath(folder)
    if "://" not in chosen:
        chosen = os.path.abspath(chosen)
        try:
            os.makedirs(chosen, exist_ok=True)
        except OSError as error:
            if chosen == str(user_folder()):  # nobody asked for it
                return ""
            why = f"the compilation cache {chosen} cannot be made ({error.strerror})"
            raise ConfigError(f"{why}: choose another folder, or SGT_COMPILATION_CACHE=off") from None
        if _FOLDER not in os.environ and users:
            _set(_SIZE, LIMIT)
    _set(_FOLDER, chosen)
    _set(_SECONDS, seconds)
    return chosen


def user_folder() -> Path:
    """XDG_CACHE_HOME/sgt_jax or ~/.cache/sgt_jax, and a part for this kind of processor: CPU programs run on no older one."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "sgt_jax" / "compiled" / processor()


def processor() -> str:
    """A short name for this kind of processor, by what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"


def _set(variable: str, value: str | float) -> None:
    """Sets one of JAX's variables: in JAX if it is imported, else in the environment, from where it reads them."""
    if variable in os.environ and variable != _FOLDER:
        return
    if "jax" in sys.modules:
        sys.modules["jax"].config.update(variable.lower(), value)
    else:
        os.environ[variable] = str(value)
