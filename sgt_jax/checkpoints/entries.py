"""Published tensors against our parameters, as data: one entry per published tensor, walked in both directions."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from sgt_jax.trees import nested


class WeightsError(ValueError):
    """A checkpoint does not fit the config; the message names the tensor."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One published tensor.

    Attributes:
      name: published name.
      file: the published file that holds it.
      shape: published shape.
      path: where it is in our tree.
      transform: "none", "transpose" (linear) or "conv"; how the published array becomes ours.
      layer: index into the leading layer axis of our array if layers are stacked, else None.
      optional: a file may lack it (the fixed position tables: training recomputes them).
    """

    name: str
    file: str
    shape: tuple[int, ...]
    path: tuple[str, ...]
    transform: str = "none"
    layer: int | None = None
    optional: bool = False

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        """A published array in our layout (of one layer, if layers are stacked).

        Raises:
          WeightsError: the shape is not the published one.
        """
        if self.path[-2:] == ("patch_embedding", "kernel") and array.ndim == 4:
            array = patch_conv_to_linear(array)  # SigLIP's own files hold a convolution
        if array.shape != self.shape:
            raise WeightsError(f"{self.file}: {self.name} has shape {array.shape}, the config says {self.shape}")
        return _TO_OURS[self.transform](array)

    def to_published(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `to_ours`."""
        return _TO_PUBLISHED[self.transform](array)


_TO_OURS = {"none": lambda x: x, "transpose": lambda x: x.T, "conv": lambda x: x.transpose(2, 3, 1, 0)}
_TO_PUBLISHED = {"none": lambda x: x, "transpose": lambda x: x.T, "conv": lambda x: x.transpose(3, 2, 0, 1)}


def patch_conv_to_linear(weight: np.ndarray) -> np.ndarray:
    """SigLIP's patch convolution [out, 3, P, P] -> the linear form [out, P*P*3], channels fastest."""
    return weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], -1)


def patch_linear_to_conv(weight: np.ndarray, channels: int = 3) -> np.ndarray:
    """The inverse of `patch_conv_to_linear`."""
    patch = int(round((weight.shape[1] / channels) ** 0.5))
    return weight.reshape(weight.shape[0], patch, patch, channels).transpose(0, 3, 1, 2)


def norm_entries(name: str, file: str, width: int, path: tuple[str, ...], **kw: Any) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", file, (width,), (*path, "scale"), **kw)
    yield Entry(f"{name}.bias", file, (width,), (*path, "bias"), **kw)


def from_published(tensors: Mapping[str, np.ndarray], entries: Iterable[Entry]) -> dict[str, Any]:
    """{published name: array} -> our parameter tree, float32.

    Args:
      tensors: at least those that the entries name, but for optional ones; unknown names are ignored.
      entries: in the order of layers where layers are stacked.

    Raises:
      WeightsError: a tensor is missing or has another shape.
    """
    flat: dict[str, Any] = {}
    for entry in entries:
        if entry.optional and entry.name not in tensors:
            continue
        if entry.name not in tensors:
            raise WeightsError(f"{entry.file} lacks {entry.name}")
        array, place = entry.to_ours(tensors[entry.name]).astype(np.float32), "/".join(entry.path)
        if entry.layer is None:
            flat[place] = np.ascontiguousarray(array)
        else:
            flat.setdefault(place, []).append(array)
    return nested({place: np.stack(x) if isinstance(x, list) else x for place, x in flat.items()})


def to_published(params: Mapping[str, Any], entries: Iterable[Entry]) -> dict[str, np.ndarray]:
    """Our parameter tree -> {published name: array}, the inverse of `from_published`. Absent parts are left out."""
    out = {}
    for entry in entries:
        if entry.path[0] not in params:
            continue
        array = params
        for key in entry.path:
            array = array[key]
        array = np.asarray(array if entry.layer is None else array[entry.layer])
        out[entry.name] = np.ascontiguousarray(entry.to_published(array))
    return out
