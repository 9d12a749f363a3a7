"""A run's weights as a folder in the published layout of its family: what `convert` and stages of studies write."""

import json
import os
from typing import Any

from etils import epath

from sgt_jax.assets import resource
from sgt_jax.checkpoints.stored import StoredWeights
from sgt_jax.data.stored.places import place, regular
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import CheckpointError, DataError
from sgt_jax.models import family as families


def publish(
    workdir: epath.PathLike,
    out: str | os.PathLike,
    weights: str = "ema",
    dtype: Any = "bfloat16",
    step: int | None = None,
    copy_from: str | os.PathLike | None = None,
    progress: Any = lambda line: None,
) -> None:
    """Writes the weights of a run, "ema" or "params", as a published folder; see `Family.save`.

    Raises:
      CheckpointError: not a work directory, no such checkpoint, `out` exists, ...
      ConfigError: an object store whose package is not installed.
    """
    workdir = place(workdir)
    path = workdir / "config.json"
    try:
        settings = json.loads(regular(path).read_text())
        family = families.of_config(settings)
        config = family.config(settings["model"])
        tokenizer_file = epath.Path(resource(settings["data"]["tokenizer"]))
    except DataError:
        raise
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
