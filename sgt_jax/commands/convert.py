"""python -m sgt_jax convert WORKDIR OUT: a run's weights as a folder in the published layout of its family.

The command reads tensors from the newest checkpoint and writes them one at a time, so memory holds no whole model. OUT gets
ema.safetensors (in --dtype), ae.safetensors (unchanged), the configs and the tokenizer. Other files are copied from the
folder that the run started from.
"""

import argparse
import json
import os
from typing import Any

import jax
from etils import epath

from sgt_jax import errors

DTYPES = {"bf16": "bfloat16", "f32": "float32"}


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = argparse.ArgumentParser(
        prog="python -m sgt_jax convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("workdir", help="the --workdir of a run")
    flags.add_argument("out", help="the folder to write; it must not exist")
    flags.add_argument("--weights", choices=("ema", "params"), default="ema", help="moving average or raw weights")
    flags.add_argument("--dtype", choices=tuple(DTYPES), default="bf16", help="of ema.safetensors")
    flags.add_argument("--step", type=int, help="a checkpoint other than the newest")
    flags.add_argument("--copy-from", metavar="DIR", help="folder with the other files (default: the run's init_from)")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    options = parser().parse_args(arguments)
    jax.config.update("jax_platforms", "cpu")

    def work() -> None:
        convert(
            options.workdir, options.out, options.weights, DTYPES[options.dtype], options.step, options.copy_from, print
        )

    return errors.status(work)


def convert(
    workdir: epath.PathLike,
    out: str | os.PathLike,
    weights: str = "ema",
    dtype: Any = "bfloat16",
    step: int | None = None,
    copy_from: str | os.PathLike | None = None,
    progress: Any = lambda line: None,
) -> None:
    """Writes the weights of a run as a published folder; see `Family.save`.

    Raises:
      CheckpointError: not a work directory, no such checkpoint, `out` exists, ...
    """
    from sgt_jax.assets import resource
    from sgt_jax.checkpoints.stored import StoredWeights
    from sgt_jax.data.text.tokenizer import Tokenizer
    from sgt_jax.errors import CheckpointError, DataError
    from sgt_jax.models import family as families

    path = epath.Path(workdir) / "config.json"
    try:
        settings = json.loads(path.read_text())
        family = families.of_config(settings)
        config = family.config(settings["model"])
        tokenizer_file = epath.Path(resource(settings["data"]["tokenizer"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"is not the config of a run ({type(error).__name__}: {error})."
        raise CheckpointError(path, why, "Give the --workdir of a run.") from None
    stored = StoredWeights(workdir, weights, step)
    if tokenizer_file.is_dir():
        tokenizer_file = tokenizer_file / "tokenizer.json"
    try:
        config = family.with_tokens(config, Tokenizer.from_file(os.fspath(tokenizer_file)))
    except DataError as error:
        raise CheckpointError(workdir, f"its tokenizer is gone: {error}.", "Put it back to that place.") from None
    if copy_from is None and settings.get("init_from"):
        copy_from = resource(settings["init_from"])
        if not os.path.isdir(copy_from):
            progress(f"{copy_from}, where this run started, is gone: only configs and the tokenizer are written")
            copy_from = None
    progress(f"{workdir}: {weights} of step {stored.step} -> {out}")
    family.save(stored, config, out, dtype, copy_from=copy_from, extra_files=[tokenizer_file], progress=progress)
