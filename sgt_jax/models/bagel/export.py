"""Writes parameters as a folder in BAGEL's published layout, tensor by tensor; the counterpart of `published.py`."""

import functools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from sgt_jax import trees
from sgt_jax.checkpoints.exporting import GetLeaf, write_published
from sgt_jax.checkpoints.writer import sync_folder
from sgt_jax.errors import CheckpointError
from sgt_jax.models.autoencoder.flux_names import VAE_FILE
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.names import MODEL_FILE, name_map

# Not copied along: weights, their indexes, pickles, unfinished files.
_WEIGHTS = re.compile(r"\.(safetensors|index\.json|bin|pt|pth|ckpt|npz|h5|gguf)$|\.partial-\d+$")


def export_published(
    params: Mapping[str, Any] | GetLeaf,
    config: BagelConfig,
    out: str | os.PathLike,
    dtype: Any = None,
    *,
    copy_from: str | os.PathLike | None = None,
    extra_files: Iterable[str | os.PathLike] = (),
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Writes a folder in the published layout, tensor by tensor; it appears under its name when it is complete.

    With several processes all of them must call it.

    Args:
      params: the parameters, or a function from a path ("decoder/embed/embedding") to a leaf, which may be lazy:
        anything with shape, dtype and read(layer, dtype).
      dtype: of the tensors in ema.safetensors; None keeps the parameters'. The autoencoder always keeps its own.
      copy_from: a published folder whose other files (configs, tokenizer, licence) are copied along.
      extra_files: further files to copy, such as a tokenizer.json.

    Raises:
      CheckpointError: `out` exists already, the disk is full, ...
    """
    out = Path(out)
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(out, "exists already and is not empty.", "Choose another name or remove it.")
    leaf = params if callable(params) else functools.partial(trees.at, params)
    first = jax.process_index() == 0
    try:
        if first:
            out.parent.mkdir(parents=True, exist_ok=True)
            partial.mkdir()
            _copy_files(config, partial, copy_from, extra_files)
        for file, kind in ((MODEL_FILE, dtype), (VAE_FILE, None)):
            names = name_map(config, file)
            write_published(partial / file, names, leaf, kind, {"format": "pt"})
            if first:
                progress(f"{file}: {len(names)} tensors, {(partial / file).stat().st_size:,} bytes")
        if first:
            sync_folder(partial)
            if out.exists():
                out.rmdir()
            partial.rename(out)
            sync_folder(out.parent)
    except OSError as error:
        why = f"cannot be written ({error.strerror}: {error.filename})."
        raise CheckpointError(out, why, "Check the disk and the files to copy.") from None
    finally:
        if first and partial.exists():
            shutil.rmtree(partial)


def _copy_files(config: BagelConfig, folder: Path, copy_from: Any, extra_files: Iterable[Any]):
    config.save(folder)
    # The published files hold more than we know: they replace what we made of it.
    for path in sorted(Path(copy_from).iterdir()) if copy_from is not None else ():
        if path.is_file() and not path.name.startswith(".") and not _WEIGHTS.search(path.name):
            if path.name != "sgt_config.json":
                shutil.copyfile(path, folder / path.name)
    for path in extra_files:
        shutil.copyfile(path, folder / Path(path).name)
