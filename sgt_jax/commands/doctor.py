"""sgt doctor: versions, devices, cores, memory, the compilation cache and free disk; what is missing is said with its remedy.

Exit status 1 if something that a run needs is missing.
"""

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence

from sgt_jax.commands.parsing import Parser
from sgt_jax.parallel import host_memory
from sgt_jax.parallel.compiling import compilation_cache

PACKAGES = ("sgt_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "libtpu")
ROOM = 2  # GB that a nano run and the compilation cache need
OLDEST = (3, 11)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return Parser(prog="sgt doctor", description=__doc__)


def main(arguments: Sequence[str]) -> int:
    """Prints a line a fact; returns 1 if something is missing."""
    parser().parse_args(arguments)
    facts, faults = {"python": f"{platform.python_version()}, {sys.executable}"}, []
    if sys.version_info < OLDEST:
        faults.append("Python 3.11 or newer is needed")
    facts |= {name: version(name) for name in PACKAGES}
    facts["machine"] = (
        f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores of {os.cpu_count()}"
    )
    facts["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB"
    facts["huge pages"] = host_memory.state()
    folder = compilation_cache()
    facts["compilation cache"] = f"{folder}, {size(folder) / 1e6:.0f} MB" if folder else "none"
    for name, path in (("here", os.getcwd()), ("temporary files", tempfile.gettempdir())):
        free = shutil.disk_usage(path).free / 1e9
        facts[f"free disk, {name}"] = f"{free:.0f} GB in {path}"
        if free < ROOM:
            faults.append(f"{path} has {free:.1f} GB left; a nano run needs about {ROOM}")
    try:
        facts["devices"] = devices()
    except (RuntimeError, ImportError, OSError) as error:  # what drivers say
        faults.append(f"JAX finds no device ({' '.join(str(error).split())}); JAX_PLATFORMS=cpu runs on the processor")
    for name, fact in facts.items():
        print(f"{name:28} {fact}")
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


def version(package: str) -> str:
    """A package's version, or that it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def devices() -> str:
    """What JAX computes on, such as "2 x cpu"."""
    import jax

    found = jax.devices()
    kinds = sorted({device.device_kind for device in found})
    return f"{len(found)} x {', '.join(kinds)} ({found[0].platform})"


def size(folder: str) -> int:
    """Bytes of all files below a local folder; 0 for one on a bucket."""
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)
