"""Lowered programs on disk, so that a process that starts again need not trace them.

JAX's compilation cache saves the compiler's work, but its key is the traced program, and tracing the programs of a server
takes most of the time that a start with a warm cache takes. Here the key is what a program is made from: the source of this
package, the versions and settings of JAX, the devices, and what the caller says about its function and arguments. What is
kept is the program as it goes to the compiler (`jax.export`); compiled programs are left to JAX's own cache, since XLA:CPU
cannot write one that it has read.
"""

import contextlib
import functools
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import jax.export

from sgt_jax.parallel.compiling import processor

LIMIT = 256 << 20  # bytes of all entries; what was unused for longest goes first
_SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_threefry_partitionable", "jax_numpy_dtype_promotion")


class Program:
    """A compiled program of a list of leaves, called as the function that it was made from.

    Attributes:
      out_info: shapes, types and shardings of its result.
    """

    def __init__(self, flat: jax.stages.Compiled, out: Any) -> None:
        self._flat, self._out = flat, out
        self.out_info = jax.tree.unflatten(out, jax.tree.leaves(flat.out_info))

    def __call__(self, *arguments: Any) -> Any:
        return jax.tree.unflatten(self._out, self._flat(*jax.tree.leaves(arguments)))


def compiled(key: str, function: Callable, arguments: tuple) -> Program | jax.stages.Compiled:
    """`jax.jit(function)` compiled for some arguments, without tracing where another process has done that before.

    Nothing is kept without a cache folder on this machine, by several processes, or of what cannot be exported, such as
    functions that call back into Python. An entry that cannot be read is made again; as with JAX's own cache, whoever may
    write the folder is trusted.

    Args:
      key: says everything about the function that its source, the arguments' types and the settings of JAX do not.
      arguments: what the program is called with; only structure, shapes and types matter.
    """
    folder = jax.config.jax_compilation_cache_dir
    if not folder or "://" in folder or jax.process_count() > 1:
        return jax.jit(function).lower(*arguments).compile()
    leaves, tree = jax.tree.flatten(arguments)
    types = [f"{x.shape} {x.dtype} {getattr(x, 'sharding', None)}" for x in leaves]
    about = [key, str(tree), *types, _machine(), _source()]
    path = Path(folder) / "programs" / hashlib.sha256("\n".join(about).encode()).hexdigest()
    found = _read(path)
    if found is None:
        try:
            found = _export(function, leaves, tree)
        except (ValueError, NotImplementedError):  # callbacks, and what JAX does not promise to keep stable
            return jax.jit(function).lower(*arguments).compile()
        _write(path, *found)
    exported, out = found
    return Program(jax.jit(exported.call).lower(*leaves).compile(), out)


def _export(function: Callable, leaves: list[Any], tree: Any) -> tuple[jax.export.Exported, Any]:
    """The function of a list of leaves, exported, and the structure of its result."""
    structures = []

    def flat(*given: Any) -> list[Any]:
        out, structure = jax.tree.flatten(function(*jax.tree.unflatten(tree, given)))
        structures.append(structure)
        return out

    exported = jax.export.export(jax.jit(flat))(*leaves)
    return exported, structures[-1]


def _read(path: Path) -> tuple[jax.export.Exported, Any] | None:
    try:
        content, template = pickle.loads(path.read_bytes())
        found = jax.export.deserialize(bytearray(content)), jax.tree.structure(template)
        os.utime(path)  # used now
    except FileNotFoundError:
        return None
    except Exception:  # noqa: BLE001  damage has no kind of its own: pickle, flatbuffers and JAX each raise others
        return None
    return found


def _write(path: Path, exported: jax.export.Exported, out: Any) -> None:
    """Writes an entry whole or not at all; a full or read-only disk costs the entry and nothing else."""
    try:
        content = pickle.dumps((bytes(exported.serialize()), jax.tree.unflatten(out, [0] * out.num_leaves)))
    except (ValueError, pickle.PicklingError, TypeError, AttributeError):
        return  # a result of classes that cannot be found again by their names
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
        _prune(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Removes what was unused for longest until the folder is below its limit."""
    entries = []
    for file in folder.iterdir():
        with contextlib.suppress(OSError):  # another process removed it
            status = file.stat()
            entries.append((status.st_mtime, status.st_size, file))
    total = sum(size for _, size, _ in entries)
    for _, size, file in sorted(entries):
        if total <= LIMIT:
            return
        with contextlib.suppress(OSError):
            file.unlink()
        total -= size


def _machine() -> str:
    backend = jax.devices()[0].client
    devices = [(device.id, device.device_kind) for device in jax.local_devices()]
    settings = [getattr(jax.config, name, None) for name in _SETTINGS]
    flags = os.environ.get("XLA_FLAGS", "")
    versions = f"{jax.__version__} {flax.__version__}"
    return f"{versions} {backend.platform} {backend.platform_version} {devices} {settings} {flags} {processor()}"


@functools.cache
def _source() -> str:
    """A digest of this package's own source."""
    root = Path(__file__).parents[1]
    found = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        found.update(f"{file.relative_to(root)}\n".encode())
        found.update(file.read_bytes())
    return found.hexdigest()
