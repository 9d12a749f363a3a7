"""Writes parameters as a pipeline folder of OmniGen2, tensor by tensor, with the other files of the folder it came from."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax.checkpoints.exporting import GetLeaf, published_folder, write_published
from sgt_jax.checkpoints.names import NameMap, below
from sgt_jax.errors import CheckpointError
from sgt_jax.models.autoencoder.diffusers_names import VAE_FILE, vae_names
from sgt_jax.models.omnigen2.config import OmniGen2Config
from sgt_jax.models.omnigen2.dit_names import WEIGHTS, dit_names
from sgt_jax.models.omnigen2.mllm.names import mllm_names
from sgt_jax.models.omnigen2.mllm.published import read_json

MLLM_FILE = "model.safetensors"
# What no file of a release says: written beside the weights of models that are not as the release.
SGT_CONFIG = "sgt_config.json"
SGT_FIELDS = ("template", "min_pixels", "max_pixels")
# Part of the folder -> (its file of weights, its branch of our tree).
PARTS = {"transformer": (WEIGHTS, "dit"), "mllm": (MLLM_FILE, "mllm"), "vae": (VAE_FILE, "vae")}
# What only the folder that training started from can bring.
COPIED = (
    "model_index.json", "processor", "scheduler", "mllm/generation_config.json", "transformer/config.json",
    "mllm/config.json", "vae/config.json",
)  # fmt: skip


def part_names(config: OmniGen2Config, part: str) -> NameMap:
    """The published tensors of one part of the folder, with paths in our whole tree."""
    branch = PARTS[part][1]
    names = {
        "dit": lambda: dit_names(config.dit, config.scan_layers),
        "mllm": lambda: mllm_names(config),
        "vae": lambda: vae_names(config.vae),
    }[branch]()
    return dict(below(branch, names.items()))


def export_published(
    params: Mapping[str, Any] | GetLeaf, config: OmniGen2Config, out: str | os.PathLike, dtype: Any = None, *,
    copy_from: str | os.PathLike | None = None, extra_files: Iterable[str | os.PathLike] = (),
    progress: Callable[[str], None] = lambda line: None,
) -> None:  # fmt: skip
    """Writes the folder; it appears under its name when it is complete. With several processes all must call it.

    Weights are cut into the files that the index of the base folder names, or lie in one file.

    Args:
      params: the parameters, or a function from a path to a leaf, which may be lazy; see `exporting.write_published`.
      dtype: of the transformer's and the language model's tensors; None keeps the parameters'.
      copy_from: the published folder whose other files are copied.
      extra_files: further files to copy to the top.

    Raises:
      CheckpointError: `out` exists, `copy_from` lacks files, the disk is full, ...
    """
    base = None if copy_from is None else Path(copy_from)
    with published_folder(out, params) as export:
        lacking = [name for name in COPIED if base is None or not (base / name).exists()]
        if lacking:
            why = f"lacks {', '.join(lacking)}, which an OmniGen2 folder needs."
            raise CheckpointError(base or out, why, "Name the published folder that training started from.")
        folder, first = export.folder, export.first
        if first:
            _copy(base, folder, extra_files)
            _write_own_config(config, folder)
        for part, (file, branch) in PARTS.items():
            names = part_names(config, part)
            kind = None if branch == "vae" else dtype
            for name, members in _files(base / part / file, names).items():
                write_published(folder / part / name, members, export.leaf, kind, {"format": "pt"})
                if first:
                    progress(f"{part}/{name}: {len(members)} tensors")
            if first:
                _write_index(base / part / file, folder / part / file, names, export.leaf, kind)


def _copy(base: Path, folder: Path, extra_files: Iterable[Any]) -> None:
    def weights(_: str, names: list[str]) -> list[str]:
        endings = (".safetensors", ".index.json", ".bin", ".pt", ".pth", ".ckpt")
        return [name for name in names if name.endswith(endings) or name.startswith(".")]

    for name in dict.fromkeys(entry.split("/")[0] for entry in COPIED):
        source = base / name
        if source.is_dir():
            # Single-file weights of the base are not copied, but a tokenizer's files are.
            shutil.copytree(source, folder / name, ignore=weights)
        else:
            shutil.copyfile(source, folder / name)
    for path in extra_files:
        shutil.copyfile(path, folder / Path(path).name)


def _write_own_config(config: OmniGen2Config, folder: Path) -> None:
    own = {name: getattr(config, name) for name in SGT_FIELDS}
    if own != {name: getattr(OmniGen2Config(), name) for name in SGT_FIELDS}:
        (folder / SGT_CONFIG).write_text(json.dumps(own, indent=2) + "\n")


def read_own_config(folder: str | os.PathLike) -> dict[str, Any]:
    """The fields that `export_published` wrote; none for a folder as released. Raises CheckpointError."""
    path = Path(folder) / SGT_CONFIG
    if not path.exists():
        return {}
    values = read_json(path)
    if unknown := sorted(set(values) - set(SGT_FIELDS)):
        raise CheckpointError(path, f"has {', '.join(unknown)}.", f"Only {', '.join(SGT_FIELDS)} stand there.")
    return values


def _index(path: Path) -> dict[str, Any] | None:
    index = path.with_name(path.name + ".index.json")
    return json.loads(index.read_text()) if index.exists() and not path.exists() else None


def _files(path: Path, names: NameMap) -> dict[str, NameMap]:
    """{file: its tensors}, as the base folder has them."""
    index = _index(path)
    if index is None:
        return {path.name: names}
    places = index["weight_map"]
    files: dict[str, dict[str, Any]] = {file: {} for file in dict.fromkeys(places.values())}
    for name, source in names.items():
        if name not in places:
            raise CheckpointError(path, f"has an index without {name}.", "Take the index of the release.")
        files[places[name]][name] = source
    return {file: members for file, members in files.items() if members}


def _write_index(base: Path, path: Path, names: NameMap, leaf: GetLeaf, dtype: Any) -> None:
    index = _index(base)
    if index is None:
        return
    size = sum(
        int(np.prod(source.shape)) * np.dtype(dtype or leaf(source.path).dtype).itemsize for source in names.values()
    )
    index["metadata"] = {**index.get("metadata", {}), "total_size": size}
    path.with_name(path.name + ".index.json").write_text(json.dumps(index, indent=2) + "\n")
