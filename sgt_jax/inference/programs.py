"""Compiled programs by what they compute and for which shapes; compiled before they are needed, or beside other work."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec


class Programs:
    """Every program is compiled once, on a thread of its own: who waits for it need not stop the others.

    Attributes:
      compiled: how many there are so far.
    """

    def __init__(self, mesh: jax.sharding.Mesh | None = None) -> None:
        """With a mesh, parameters lie on it as they are given, and results whole on every device."""
        self.compiled, self._mesh = 0, mesh
        self._found: dict[Any, Future] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(1, "compiling")

    def ask(self, name: str, function: Callable, *arguments: Any, **static: Any) -> Future:
        """The program of `function(*arguments, **static)`, a Future that may still be running.

        Args:
          name: of the function; two functions of one name must compute the same.
          arguments: arrays, or trees of them; only their shapes and types matter.
          static: hashable, part of the program.
        """
        leaves, tree = jax.tree.flatten(arguments)
        shapes = tuple((x.shape, str(x.dtype)) for x in leaves)
        key = (name, tree, shapes, tuple(sorted(static.items())))
        with self._lock:
            if key not in self._found:
                abstract = jax.tree.map(_abstract, arguments)
                self._found[key] = self._threads.submit(self._compile, function, abstract, static)
            return self._found[key]

    def run(self, name: str, function: Callable, *arguments: Any, **static: Any) -> Any:
        """Runs the program, after compiling it if need be."""
        return self.ask(name, function, *arguments, **static).result()(*arguments)

    def close(self) -> None:
        """Ends the thread; what was compiled stays usable."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _compile(self, function: Callable, abstract: Any, static: dict[str, Any]) -> Callable:
        # A cut of the arguments that are replaced in every call would save memory; CPUs ignore it, and say so each time.
        where = {} if self._mesh is None else {"out_shardings": NamedSharding(self._mesh, PartitionSpec())}
        with contextlib.nullcontext() if self._mesh is None else jax.set_mesh(self._mesh):
            program = jax.jit(lambda *given: function(*given, **static), **where).lower(*abstract).compile()
        self.compiled += 1
        return program


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding if isinstance(x, jax.Array) else None)
