"""The sections of a folder of adapters that PEFT wrote: one per case, each with what its adapted modules compute.

A case is a folder with `adapter/` (as `save_pretrained` wrote it), `base.safetensors` (a tree of linear layers by their
published names), `bound.json` (the modules that got an adapter) and `modules.npz` (for each of them MODULE/in, MODULE/out
with the adapter and MODULE/plain without).
"""

import functools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sgt_jax.checkpoints import adapters, adapters_out
from sgt_jax.checkpoints.safetensors import Weights
from sgt_jax.parity.checks import Check, compare

_NEEDED = ("adapter/adapter_config.json", "bound.json", "modules.npz", "base.safetensors")


class Folder:
    """A folder of cases, or one case."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)

    def has(self, name: str) -> bool:
        """Whether it holds a file of that name."""
        return (self.path / name).exists()

    def cases(self) -> dict[str, Path]:
        """name -> its folder."""
        if self.has(_NEEDED[0]):
            return {self.path.resolve().name: self.path}
        found = sorted(self.path.iterdir()) if self.path.is_dir() else []
        return {path.name: path for path in found if (path / _NEEDED[0]).is_file()}


def recognises(path: str | os.PathLike) -> bool:
    """Whether a folder holds recorded adapters."""
    return bool(Folder(path).cases())


def open_folder(path: str | os.PathLike) -> Folder:
    """The folder."""
    return Folder(path)


def of_folder(folder: Folder) -> dict[str, tuple[tuple[str, ...], Callable[[Folder], Iterator[Check]]]]:
    """section -> (the files that it needs, its function), of the cases that the folder holds."""
    return {
        name: (
            tuple(str((path / file).relative_to(folder.path)) for file in _NEEDED),
            functools.partial(_case, path=path, name=name),
        )
        for name, path in folder.cases().items()
    }


def _case(folder: Folder, path: Path, name: str) -> Iterator[Check]:
    settings, adapter = adapters.read(path / "adapter")
    with Weights(path / "base.safetensors") as file:
        base = {key: np.asarray(file.read(key)).astype(np.float32) for key in file.tensors}
    weights = {
        key.removesuffix(".weight"): value for key, value in base.items() if key.endswith(".weight") and value.ndim == 2
    }
    bound = json.loads((path / "bound.json").read_text())
    modules = adapters.bind(adapter, {module: weight.shape for module, weight in weights.items()})
    yield _same(name, "bound modules", sorted(modules), sorted(bound))
    yield _same(name, "modules that the settings name", sorted(filter(settings.adapts, weights)), sorted(bound))
    with np.load(path / "modules.npz") as recorded:
        for module in sorted(bound):
            x, bias = recorded[f"{module}/in"].astype(np.float32), base.get(f"{module}.bias", 0.0)
            yield compare(name, f"{module} plain", x @ weights[module].T + bias, recorded[f"{module}/plain"])
            out = x @ modules[module].merged(weights[module]).T + bias
            yield compare(name, f"{module} adapted", out, recorded[f"{module}/out"])
    yield from _written(name, path, settings, adapter)


def _written(name: str, path: Path, settings: adapters.Settings, adapter: adapters.Adapter) -> Iterator[Check]:
    """What we write of the same adapter: names, shapes, dtypes and keys are PEFT's, and it loads back."""
    with tempfile.TemporaryDirectory() as place:
        adapters_out.write(place, settings, adapter.modules)
        for file in (Path(place), path / "adapter"):
            with Weights(file / adapters.WEIGHTS) as weights:
                tensors = {key: (t.shape, str(t.dtype)) for key, t in weights.tensors.items()}
            keys = sorted(json.loads((file / adapters.CONFIG).read_text()))
            if file == Path(place):
                ours = tensors, keys
        yield _same(name, "written tensors", ours[0], tensors)
        yield _same(name, "written keys of the config", ours[1], keys)
        again_settings, again = adapters.read(place)
        yield _same(name, "settings read back", again_settings, settings)
        for module, low in adapter.modules.items():
            yield compare(name, f"{module} read back", again.modules[module].b @ again.modules[module].a, low.b @ low.a)


def _same(section: str, what: str, got: object, expected: object) -> Check:
    equal = got == expected
    return Check(section, what, 0.0 if equal else float("inf"), 0.0, equal, "" if equal else f"{got!r:.200}"[:200])
