"""A run's weights as a folder in the published layout of its family: what `convert` and stages of studies write.

A run that trained adapters has two such folders: the adapters alone, as PEFT and diffusers load them, and its base with the
adapters added.
"""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from sgt_jax.assets import resource
from sgt_jax.checkpoints import adapters, adapters_out
from sgt_jax.checkpoints.stored import StoredWeights
from sgt_jax.data.stored.places import place, regular
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import CheckpointError, DataError
from sgt_jax.inference import adapted
from sgt_jax.models import family as families
from sgt_jax.models.family import Family, ModelConfig

FOLDER = "adapter"  # below a work directory: the adapters at the end of the run
_DIFFUSERS = "transformer."  # before the names of a diffusion transformer's modules


class _Run(NamedTuple):
    workdir: epath.Path
    settings: Mapping[str, Any]
    family: Family
    config: ModelConfig
    tokenizer_file: epath.Path


def _opened(workdir: epath.PathLike) -> _Run:
    """Raises a CheckpointError if it is no work directory of a run."""
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
    return _Run(workdir, settings, family, config, tokenizer_file)


def publish(
    workdir: epath.PathLike,
    out: str | os.PathLike,
    weights: str = "ema",
    dtype: Any = "bfloat16",
    step: int | None = None,
    copy_from: str | os.PathLike | None = None,
    progress: Any = lambda line: None,
    merge: bool = False,
) -> int:
    """Writes the weights of a run, "ema" or "params", as a published folder; returns their step. See `Family.save`.

    Args:
      merge: of a run that trained adapters: its base with the adapters added. The base is held in memory.

    Raises:
      CheckpointError: not a work directory, no such checkpoint, `out` exists, adapters that are not to be merged, ...
      ConfigError: an object store whose package is not installed.
    """
    workdir, settings, family, config, tokenizer_file = _opened(workdir)
    if merge != adapted.trains_adapters(settings):
        why = "trained the model itself, so there is nothing to merge." if merge else "trained adapters, not a model."
        advice = "Leave --merge out." if merge else "Give --adapter for the adapters, or --merge for base and adapters."
        raise CheckpointError(workdir, why, advice)
    if merge:
        params, step = adapted.params_of_run(workdir, settings, weights, None, step)
    else:
        params = StoredWeights(workdir, weights, step)
        step = params.step
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
    progress(f"{workdir}: {weights} of step {step} -> {out}")
    family.save(params, config, out, dtype, copy_from=copy_from, extra_files=[tokenizer_file], progress=progress)
    return step


def publish_adapter(
    workdir: epath.PathLike, out: str | os.PathLike, weights: str = "ema", step: int | None = None,
    progress: Any = lambda line: None,
) -> int:  # fmt: skip
    """Writes the adapters of a run as PEFT does, a diffusion transformer's also as diffusers does; returns their step.

    Raises:
      CheckpointError: not a work directory, no such checkpoint, the run trained no adapters, ...
      OSError: `out` cannot be written.
    """
    run = _opened(workdir)
    if not adapted.trains_adapters(run.settings):
        raise CheckpointError(run.workdir, "trained the model itself, and no adapters.", "Leave --adapter out.")
    found = adapted.of_run(run.workdir, run.settings, weights, step)
    adapters_out.write(out, found.adaptation.settings, found.modules, run.settings.get("init_from") or None)
    known = run.family.linears(run.config)
    painting = {name: low for name, low in found.modules.items() if _DIFFUSERS + name in known}
    if painting:
        adapters_out.write_diffusers(os.path.join(out, adapters.DIFFUSERS), painting, _DIFFUSERS)
    progress(f"{run.workdir}: {len(found.modules)} adapters, {weights} of step {found.step} -> {os.fspath(out)}")
    return found.step
