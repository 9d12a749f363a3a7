"""A checkpoint as something to talk to: a published folder or the work directory of a run becomes an Assistant.

    model = inference.load("BAGEL-7B-MoT")
    model.chat([photo, "What is left of the cup?"])
    model.draw(["a tall tower at night"], seeds=[0, 1])
    model.edit([photo, "make it darker"])
    model.segment(photo)

Photos are uint8 arrays [H, W, 3]; see `Assistant` for the options.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import CheckpointError
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models import family as families
from sgt_jax.models.family import Family, Settings


def load(
    checkpoint: str | os.PathLike, *, base: str | os.PathLike | None = None, weights: str = "ema",
    dtype: str | None = None, report: Callable[[str], None] = lambda line: None,
) -> Assistant:  # fmt: skip
    """Opens a published folder or the work directory of a run.

    Args:
      checkpoint: the folder; "package:nano" is the model that ships with sgt_jax.
      base: a BAGEL folder with the files that an SGT release lacks.
      weights: "ema" or "params".
      dtype: to compute in; by default bfloat16, on CPUs float32.
      report: gets a text that says what was restored.

    Raises:
      CheckpointError, DataError: not a checkpoint, damaged, or without a tokenizer.
    """
    from sgt_jax.assets import resource

    checkpoint = resource(os.fspath(checkpoint))
    dtype = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    if not Path(checkpoint).is_dir():
        raise CheckpointError(checkpoint, "is not a folder.", "Give a published folder or the --workdir of a run.")
    if (Path(checkpoint) / "checkpoints").is_dir():
        return _load_run(checkpoint, weights, dtype, report)
    family = families.of_folder(checkpoint)
    config = family.config_of_folder(checkpoint, base, dtype=dtype)
    tokenizer = Tokenizer.from_file(_first(checkpoint, base, "tokenizer.json"))
    loaded = family.load(checkpoint, config, base=base, weights=weights, dtype=dtype)
    report(loaded.summary)
    return Assistant(family, config, loaded.params, tokenizer)


def _first(folder: Any, base: Any, name: str) -> Path:
    places = [Path(place) / name for place in (folder, base) if place is not None]
    return next((path for path in places if path.exists()), places[0])


def _load_run(workdir: Any, weights: str, dtype: str, report: Callable[[str], None]) -> Assistant:
    from sgt_jax.assets import resource
    from sgt_jax.checkpoints import runs

    path = Path(workdir) / "config.json"
    try:
        settings = json.loads(path.read_text())
        family = families.of_config(settings)
        config = family.config(settings["model"]).replace(dtype=dtype)
        tokenizer_file = resource(settings["data"]["tokenizer"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"is not the config of a run ({type(error).__name__}: {error})."
        raise CheckpointError(path, why, "Give the --workdir of a run.") from None
    tokenizer = Tokenizer.from_file(tokenizer_file)
    params, step = runs.restore_params(workdir, weights)
    if params.keys() == {"vae"}:
        raise CheckpointError(workdir, "trained an autoencoder only.", "Give the work directory of a run with a model.")
    report(f"{workdir}: {weights} of step {step}")
    proxy = next((m for m in settings["data"].get("mixture", {}).values() if m.get("proxy") == "segmentation"), {})
    canvases = settings["data"].get("canvases") or [None]
    return Assistant(
        family,
        config,
        jax.tree.map(jax.numpy.asarray, params),
        tokenizer,
        defaults=_defaults_of_run(family, settings),
        palette=_palette_of_run(settings, proxy),
        wording=proxy.get("options", {}).get("style"),
        default_shape=tuple(canvases[0]) if canvases[0] else None,
    )


def _palette_of_run(settings: Mapping[str, Any], proxy: Mapping[str, Any]) -> str | None:
    """A run that does not say in which colours it paints was scored by them; None leaves them to be found."""
    evaluated = next((e for e in settings.get("evaluators", {}).values() if e.get("type") == "masks"), {})
    return proxy.get("options", {}).get("palette") or evaluated.get("palette")


def _defaults_of_run(family: Family, settings: Mapping[str, Any]) -> dict[str, Settings]:
    """The settings that a run was evaluated with are the ones that it was made for."""
    rule = settings["data"].get("vit_size")
    out = {mode: dataclasses.replace(s, vit=(rule["min_size"], rule["max_size"])) if rule else s
           for mode, s in family.defaults.items()}  # fmt: skip
    modes = {"masks": ("segment",), "drawings": ("t2i", "edit"), "prompts": ("t2i",), "edits": ("edit",)}
    for evaluator in settings.get("evaluators", {}).values():
        for mode in modes.get(evaluator.get("type"), ()):
            guidance = family.guidance(text_scale=float(evaluator.get("text_scale", 1.0)))  # as the evaluators have it
            out[mode] = dataclasses.replace(
                out[mode], steps=evaluator["steps"], shift=float(evaluator["shift"]), guidance=guidance
            )
    return out
