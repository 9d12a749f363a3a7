"""A folder of numbers recorded from OmniGen2's reference: its files, and the bounds that its README states."""

import functools
import json
import os
import re
from typing import Any

import numpy as np

from sgt_jax.checkpoints import adapters
from sgt_jax.checkpoints.names import NameMap
from sgt_jax.checkpoints.safetensors import Weights
from sgt_jax.models.autoencoder.diffusers_names import load_vae
from sgt_jax.models.omnigen2.config import DitConfig
from sgt_jax.models.omnigen2.dit_names import LORA_FILE, dit_config, dit_names, weights_path
from sgt_jax.models.omnigen2.mllm.published import load_mllm
from sgt_jax.parity.checks import Check

_HEADING = re.compile(r"## (\S+\.npz)")
_ROW = re.compile(r"\| `(?P<name>[^`]+)` \|.*\| (?P<atol>[^|]+) \|$")
_RELATIVE = 2e-5  # of the largest entry, where the README has no bound


class Folder:
    """A folder of recorded numbers, and what several sections need of it, made once."""

    def __init__(self, path: str | os.PathLike, **changes: Any) -> None:
        """`changes` override how the models compute (scan_layers=True, attention="blockwise", ...)."""
        self.path = os.fspath(path)
        self.changes = changes
        self.shared: dict[str, Any] = {}  # what sections keep for each other

    def file(self, *parts: str) -> str:
        """The path of a file."""
        return os.path.join(self.path, *parts)

    def has(self, name: str) -> bool:
        """Whether it holds a file of that name."""
        return os.path.exists(self.file(name))

    def json(self, name: str) -> Any:
        """The content of a JSON file."""
        with open(self.file(name), "rb") as file:
            return json.load(file)

    @functools.cache  # noqa: B019  one folder lives as long as its process
    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an npz file."""
        with np.load(self.file(name)) as file:
            return dict(file)

    @functools.cached_property
    def bounds(self) -> dict[tuple[str, str], float]:
        """{(file, array): absolute bound} from the tables of README.md; 0 where they say "exact"."""
        found: dict[tuple[str, str], float] = {}
        if not self.has("README.md"):
            return found
        with open(self.file("README.md"), encoding="utf-8") as file:
            heading = ""
            for line in file:
                if match := _HEADING.match(line):
                    heading = match[1]
                elif (match := _ROW.match(line.rstrip())) and match["atol"].strip():
                    text = match["atol"].strip()
                    found[heading, match["name"]] = 0.0 if text == "exact" else float(text)
        return found

    def check(self, section: str, file: str, array: str, got: Any, rows: Any = None) -> Check:
        """Compares an array with its recorded value; `rows` picks what counts of both (a boolean mask of leading axes)."""
        expected = self.arrays(file)[array]
        return self.compare(section, file, array, got, expected, rows)

    def compare(self, section: str, file: str, array: str, got: Any, expected: Any, rows: Any = None) -> Check:
        """Compares with a part of a recorded array, under the bound of the whole."""
        got, expected = np.asarray(got), np.asarray(expected)
        if got.shape != expected.shape:
            return Check(section, array, float("inf"), 0.0, False, f"shape {got.shape} instead of {expected.shape}")
        largest = float(np.max(np.abs(expected), initial=0.0))
        bound = self.bounds.get((file, array), 0.0 if expected.dtype.kind in "biu" else _RELATIVE * largest)
        if rows is not None:
            got, expected = got[rows], expected[rows]
        error = float(np.max(np.abs(got.astype(np.float64) - expected.astype(np.float64)), initial=0.0))
        return Check(section, array, error, bound, bool(error <= bound))  # a NaN fails

    @functools.cached_property
    def dit_config(self) -> DitConfig:
        """Of the transformer."""
        return dit_config(self.file("transformer"))

    @functools.cached_property
    def dit_names(self) -> NameMap:
        """Its tensors, layers apart or stacked as `changes` say."""
        return dit_names(self.dit_config, self.changes.get("scan_layers", False))

    @functools.cached_property
    def dit_tensors(self) -> dict[str, np.ndarray]:
        """Its published tensors."""
        with Weights(weights_path(self.file("transformer"))) as weights:
            return {name: np.asarray(weights.read(name), np.float32) for name in weights.tensors}

    def add_adapter(self, path: str, scale: float) -> None:
        """Compares the transformer with an adapter added; the language model's numbers were recorded without any.

        Raises:
          CheckpointError: the adapter is damaged, of the language model, or of another one.
        """
        self.dit_tensors = adapters.merged(self.dit_tensors, adapters.read_any(path), scale)

    @functools.cached_property
    def lora_tensors(self) -> dict[str, np.ndarray]:
        """The same with the folder's adapters merged in."""
        path = self.file("lora", LORA_FILE)
        return adapters.merged(self.dit_tensors, adapters.read_diffusers(path))

    @functools.cached_property
    def vae(self) -> tuple[dict[str, Any], Any]:
        """(parameters, config) of the autoencoder."""
        return load_vae(self.file("vae"), dtype="float32")

    @functools.cached_property
    def mllm(self) -> tuple[dict[str, Any], Any]:
        """(parameters, config) of the language model."""
        return load_mllm(self.file("mllm"), dtype="float32", **self.changes)
