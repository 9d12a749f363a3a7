"""--mesh, for commands that spread a loaded model over several devices."""

import argparse
import math

from sgt_jax.errors import ConfigError


def add_mesh(flags: argparse.ArgumentParser) -> None:
    """Adds the option."""
    how = "spread the model over devices, such as fsdp=2,tensor=2 (default: one device)"
    flags.add_argument("--mesh", metavar="AXIS=N,...", help=how)


def mesh_of(text: str | None):  # noqa: ANN201
    """The mesh that --mesh names, or None. Raises ConfigError: unknown axes, or not as many devices as it needs."""
    if text is None:
        return None
    import jax

    from sgt_jax.parallel import partitioning

    pairs = [part.partition("=") for part in text.split(",")]
    if not all(size.isdecimal() and int(size) for _, _, size in pairs):
        raise ConfigError(f"--mesh {text}: write it as AXIS=NUMBER,..., such as fsdp=2,tensor=2")
    sizes = {axis.strip(): int(size) for axis, _, size in pairs}
    count = math.prod(sizes.values())
    return partitioning.make_mesh(dict.fromkeys(partitioning.AXES, 1) | sizes, jax.devices()[:count])
