"""Writes parameters as a folder in BAGEL's published layout, tensor by tensor; the counterpart of `published.py`."""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sgt_jax.checkpoints.exporting import GetLeaf, published_folder, write_published
from sgt_jax.models.autoencoder.flux_names import VAE_FILE
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.names import MODEL_FILE, name_map
from sgt_jax.models.bagel.tokenizer_files import write_older

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
    with published_folder(out, params) as export:
        if export.first:
            _copy_files(config, export.folder, copy_from, extra_files)
        for file, kind in ((MODEL_FILE, dtype), (VAE_FILE, None)):
            names, path = name_map(config, file), export.folder / file
            write_published(path, names, export.leaf, kind, {"format": "pt"})
            if export.first:
                progress(f"{file}: {len(names)} tensors, {path.stat().st_size:,} bytes")


def _copy_files(config: BagelConfig, folder: Path, copy_from: Any, extra_files: Iterable[Any]):
    config.save(folder)
    # The published files hold more than we know: they replace what we made of it.
    for path in sorted(Path(copy_from).iterdir()) if copy_from is not None else ():
        if path.is_file() and not path.name.startswith(".") and not _WEIGHTS.search(path.name):
            if path.name != "sgt_config.json":
                shutil.copyfile(path, folder / path.name)
    for path in extra_files:
        shutil.copyfile(path, folder / Path(path).name)
    write_older(folder)
