"""Compiled programs by what they compute and for which shapes; compiled before they are needed, or beside other work."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from sgt_jax.parallel.lowered import compiled


class Programs:
    """Every program is compiled once, on threads of their own: who waits for it need not stop the others.

    Attributes:
      compiled: how many there are so far, those from the disk among them.
    """

    def __init__(self, mesh: jax.sharding.Mesh | None = None, of: str = "") -> None:
        """With a mesh, parameters lie on it as they are given, and results whole on every device.

        `of` says all that functions of a name depend on beside their arguments, such as the model's config; then programs
        without a mesh are kept on disk, and the next process with the same text does not trace them. "" keeps none.
        """
        self.compiled, self._mesh, self._of = 0, mesh, of
        self._found: dict[Any, Future] = {}
        self._lock = threading.Lock()
        # The compiler itself leaves Python's lock to others, so that a start reads or compiles two programs at a time.
        self._threads = ThreadPoolExecutor(2, "compiling")

    def ask(self, name: str, function: Callable, *arguments: Any, **static: Any) -> Future:
        """The program of `function(*arguments, **static)`, a Future that may still be running.

        The program tells the shapes of its result as `out_info`, which may stand among the arguments of another `ask`.

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
                self._found[key] = self._threads.submit(self._compile, name, function, abstract, static)
            return self._found[key]

    def run(self, name: str, function: Callable, *arguments: Any, **static: Any) -> Any:
        """Runs the program, after compiling it if need be."""
        return self.ask(name, function, *arguments, **static).result()(*arguments)

    def close(self) -> None:
        """Ends the threads; what was compiled stays usable."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _compile(self, name: str, function: Callable, abstract: Any, static: dict[str, Any]) -> Callable:
        def program(*given: Any) -> Any:
            return function(*given, **static)

        # A cut of the arguments that are replaced in every call would save memory; CPUs ignore it, and say so each time.
        if self._mesh is not None:
            with jax.set_mesh(self._mesh):
                whole = NamedSharding(self._mesh, PartitionSpec())
                found = jax.jit(program, out_shardings=whole).lower(*abstract).compile()
        elif self._of:
            found = compiled(f"{name} {sorted(static.items())} {self._of}", program, abstract)
        else:
            found = jax.jit(program).lower(*abstract).compile()
        with self._lock:
            self.compiled += 1
        return found


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None))
