"""Published tensors against our parameters, as data: a name map says of every published tensor where it lives with us.

`{published name: Source}` is all that a model family writes down. `importing.py` walks it one way, `exporting.py` the
other. The functions below make the entries of the usual layers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Source(NamedTuple):
    """Where one published tensor lives in the parameter tree.

    Attributes:
      path: the leaf, joined by "/": "decoder/layers/und/q_proj/kernel".
      shape: of the published tensor.
      axes: for every axis of the leaf (of one layer, if stacked) the published axis it comes from; None is a new
        axis of size 1. Published axes that are not named have size 1 and vanish. A linear kernel has (1, 0).
      layer: position on the leaf's leading axis, if the leaf stacks layers; None otherwise.
    """

    path: str
    shape: tuple[int, ...]
    axes: tuple[int | None, ...]
    layer: int | None = None

    @property
    def leaf_shape(self) -> tuple[int, ...]:
        """Shape of the leaf, or of one layer of it."""
        return tuple(1 if axis is None else self.shape[axis] for axis in self.axes)

    def published_index(self, index: Sequence[slice]) -> list[slice]:
        """The part of the published tensor that a part of the leaf (or layer) comes from."""
        found = [slice(0, 1)] * len(self.shape)
        for axis, part in zip(self.axes, index, strict=True):
            if axis is not None:
                found[axis] = part
        return found

    def as_published(self, array: np.ndarray) -> np.ndarray:
        """A view of a part of the leaf (or layer) with the published axes."""
        new = tuple(k for k, axis in enumerate(self.axes) if axis is None)
        kept = [axis for axis in self.axes if axis is not None]
        gone = tuple(axis for axis in range(len(self.shape)) if axis not in kept)
        return np.expand_dims(array.squeeze(new).transpose(np.argsort(kept)), gone)

    @property
    def turns(self) -> bool:
        """Whether the leaf holds the values in another order than the file."""
        kept = [axis for axis in self.axes if axis is not None]
        return kept != sorted(kept)


NameMap = Mapping[str, Source]
Named = Iterator[tuple[str, Source]]  # entries of a name map


class Leaf(NamedTuple):
    """A leaf of the tree and the published tensors that fill it (one, or one per layer, in order)."""

    path: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    stacked: bool


def leaves(names: NameMap) -> list[Leaf]:
    """The leaves that a name map fills, sorted by path.

    Raises:
      ValueError: the map is inconsistent (a program error): layers missing or of different shapes.
    """
    members: dict[str, list[tuple[int | None, str]]] = {}
    for name, source in names.items():
        members.setdefault(source.path, []).append((source.layer, name))
    found = []
    for path, places in sorted(members.items()):
        stacked = places[0][0] is not None
        places.sort()
        expected = list(range(len(places))) if stacked else [None]
        shapes = {names[name].leaf_shape for _, name in places}
        if [layer for layer, _ in places] != expected or len(shapes) != 1:
            raise ValueError(f"the name map fills {path} with {places} of shapes {sorted(shapes)}")
        shape = ((len(places),) if stacked else ()) + shapes.pop()
        found.append(Leaf(path, shape, tuple(name for _, name in places), stacked))
    return found


# -- Entries of the usual layers. `path` is the layer's place in our tree, `layer` as in Source ------------------------


def same(name: str, path: str, shape: Sequence[int], layer: int | None = None) -> Named:
    """One tensor [shape] that is with us as it is published."""
    yield name, Source(path, tuple(shape), tuple(range(len(shape))), layer)


def linear(name: str, path: str, shape: tuple[int, int], bias: bool = True, layer: int | None = None) -> Named:
    """Weight [out, in], with us kernel [in, out], and bias [out]; `shape` is (out, in)."""
    yield f"{name}.weight", Source(f"{path}/kernel", shape, (1, 0), layer)
    if bias:
        yield from same(f"{name}.bias", f"{path}/bias", shape[:1], layer)


def linear_as_conv(name: str, path: str, shape: tuple[int, int]) -> Named:
    """Weight [out, in] of a linear layer that is a 1x1 convolution with us, kernel [1, 1, in, out], and bias [out]."""
    yield f"{name}.weight", Source(f"{path}/kernel", shape, (None, None, 1, 0))
    yield from same(f"{name}.bias", f"{path}/bias", shape[:1])


def conv(name: str, path: str, inputs: int, outputs: int, size: int = 3) -> Named:
    """Weight [out, in, kh, kw], with us kernel [kh, kw, in, out], and bias [out]."""
    yield f"{name}.weight", Source(f"{path}/kernel", (outputs, inputs, size, size), (2, 3, 1, 0))
    yield from same(f"{name}.bias", f"{path}/bias", (outputs,))


def norm(name: str, path: str, width: int, layer: int | None = None) -> Named:
    """Weight [width], with us scale, and bias [width]."""
    yield from same(f"{name}.weight", f"{path}/scale", (width,), layer)
    yield from same(f"{name}.bias", f"{path}/bias", (width,), layer)


def below(parent: str, names: Iterable[tuple[str, Source]]) -> Named:
    """The entries of a part of a model, with the part at `parent` in the tree."""
    for name, source in names:
        yield name, source._replace(path=f"{parent}/{source.path}")
