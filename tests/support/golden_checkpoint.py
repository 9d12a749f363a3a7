"""A copy of the golden checkpoint that a test may damage, and ways to damage it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

from tests.support import paths

CKPT = paths.GOLDEN / "bagel" / "ckpt"
FILES = ("ema.safetensors", "ae.safetensors")
TABLES = ("latent_pos_embed.pos_embed", "vit_pos_embed.pos_embed")


def copied(target: Path) -> Path:
    """A writable copy of the golden checkpoint as the folder `target`."""
    shutil.copytree(CKPT, target)
    target.chmod(0o755)
    for path in target.iterdir():
        path.chmod(0o644)
    return target


def edit(path: Path, change: Callable) -> None:
    """Applies `change` to the tensors of a safetensors file, or to the content of a JSON file."""
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    else:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)


def as_bf16(folder: Path):
    def cast(tensors):
        tensors.update({name: array.astype(ml_dtypes.bfloat16) for name, array in tensors.items()})

    for file in FILES:
        edit(folder / file, cast)


def same_tree(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def same_tensors(one: Path, other: Path):
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape
        assert a[name].tobytes() == b[name].tobytes()
