"""A checkpoint as something to talk to: a published folder or the work directory of a run becomes an Assistant.

    model = inference.load("BAGEL-7B-MoT")
    model.chat([photo, "What is left of the cup?"])
    model.draw(["a tall tower at night"], seeds=[0, 1])
    model.edit([photo, "make it darker"])
    model.segment(photo)

Photos are uint8 arrays [H, W, 3]; see `Assistant` for the options.
"""

import copy
import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from etils import epath

from sgt_jax.checkpoints import adapters
from sgt_jax.checkpoints.folders import folder_of
from sgt_jax.data.stored.atomic import is_remote
from sgt_jax.data.stored.places import regular
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import CheckpointError, DataError
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models import family as families
from sgt_jax.models import lora
from sgt_jax.models.attention import AUTO
from sgt_jax.models.family import Family, Settings
from sgt_jax.parallel import partitioning


def load(
    checkpoint: str | os.PathLike, *, base: str | os.PathLike | None = None, weights: str = "ema",
    dtype: str | None = None, report: Callable[[str], None] = lambda line: None, strip_prefix: str = "",
    adapter: str | os.PathLike | None = None, adapter_scale: float = 1.0, mesh: jax.sharding.Mesh | None = None,
) -> Assistant:  # fmt: skip
    """Opens a published folder or the work directory of a run, with an adapter if one is named.

    Args:
      checkpoint: the folder; "package:nano" is the model that ships with sgt_jax.
      base: a BAGEL folder with the files that an SGT release lacks.
      weights: "ema" or "params".
      dtype: to compute in; by default bfloat16, on CPUs float32.
      report: gets a text that says what was restored.
      adapter: a folder that PEFT or a run of ours wrote, or a LoRA file in the layout of diffusers; see `with_adapter`.
      adapter_scale: what its scales are multiplied with.
      strip_prefix: taken off the names of a published folder's tensors, such as "module.".
      mesh: to spread the parameters over, by the table that training uses.

    Raises:
      CheckpointError, DataError: not a checkpoint, damaged, or without a tokenizer.
      ConfigError: an object store whose package is not installed.
    """
    where = epath.Path(folder_of(checkpoint))
    dtype = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    checkpoint = os.fspath(where)
    found = _opened(where, base, weights, dtype, report, strip_prefix, mesh)
    found.mesh = mesh
    if adapter is None:
        return found
    report(f"{os.fspath(adapter)}: an adapter, times {adapter_scale:g}")
    return with_adapter(found, adapter, adapter_scale)


def with_adapter(assistant: Assistant, adapter: str | os.PathLike, scale: float = 1.0) -> Assistant:
    """The same model with an adapter added to its weights; it shares all other arrays and compiled programs' shapes.

    Raises:
      CheckpointError: the adapter is damaged, of another model, or asks for what is not computed; the family takes none.
    """
    modules = assistant.family.linears(assistant.config)
    found = copy.copy(assistant)
    found.params = lora.merged(assistant.params, modules, adapters.read_any(adapter), scale)
    return found


def _opened(
    where: epath.Path, base: Any, weights: str, dtype: str, report: Callable[[str], None], strip_prefix: str,
    mesh: jax.sharding.Mesh | None,
) -> Assistant:  # fmt: skip
    checkpoint = os.fspath(where)
    if (where / "checkpoints").is_dir():
        found = _load_run(checkpoint, weights, dtype, report)
        if mesh is not None:
            found.params = jax.device_put(found.params, partitioning.tree_shardings(found.params, mesh))
        return found
    if is_remote(checkpoint):
        raise CheckpointError(checkpoint, "is no work directory of a run.", "Copy a published folder to this machine.")
    family = families.of_folder(checkpoint)

    def spread(path: str, shape: tuple[int, ...]) -> jax.sharding.Sharding:
        return jax.sharding.NamedSharding(mesh, partitioning.spec_for(path, shape, mesh))

    config = family.config_of_folder(checkpoint, base, strip_prefix, **computing(family, dtype))
    tokenizer = Tokenizer.from_file(_tokenizer(checkpoint, base))
    spreading = {} if mesh is None else {"sharding": spread}
    loaded = family.load(checkpoint, config, base=base, weights=weights, dtype=dtype, strip_prefix=strip_prefix, **spreading)
    report(loaded.summary)
    return Assistant(family, config, loaded.params, tokenizer)


def computing(family: Family, dtype: str) -> dict[str, str]:
    """How it is computed here: a run may have had a kernel that this machine lacks, and "xla" holds all pairs of slots."""
    return {"dtype": dtype} | ({"attention": AUTO} if "attention" in family.compute_fields else {})


def _tokenizer(folder: Any, base: Any) -> Path:
    """Beside the weights, or in `processor/`, where pipelines of diffusers keep it; of the base, if only that has one."""
    roots = [Path(place) for place in (folder, base) if place is not None]
    places = [root / inside / "tokenizer.json" for root in roots for inside in (".", "processor")]
    return next((path for path in places if path.exists()), places[0])


def _load_run(workdir: Any, weights: str, dtype: str, report: Callable[[str], None]) -> Assistant:
    from sgt_jax.assets import resource

    path = epath.Path(workdir) / "config.json"
    try:
        settings = json.loads(regular(path).read_text())
        family = families.of_config(settings)
        config = family.config(settings["model"]).replace(**computing(family, dtype))
        tokenizer_file = resource(settings["data"]["tokenizer"])
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"is not the config of a run ({type(error).__name__}: {error})."
        raise CheckpointError(path, why, "Give the --workdir of a run.") from None
    tokenizer = Tokenizer.from_file(tokenizer_file)
    params, step = params_of_run(workdir, settings, weights, dtype)
    if params.keys() == {"vae"}:
        raise CheckpointError(workdir, "trained an autoencoder only.", "Give the work directory of a run with a model.")
    raw = weights == "params" or not settings.get("ema_decay")
    report(f"{workdir}: {'raw weights' if raw else 'ema'} of step {step}")
    proxy = next((m for m in settings["data"].get("mixture", {}).values() if m.get("proxy") == "segmentation"), {})
    canvases = settings["data"].get("canvases") or [None]
    return Assistant(
        family,
        config,
        jax.tree.map(jax.numpy.asarray, params),
        tokenizer,
        defaults=defaults_of_run(family, settings),
        palette=_palette_of_run(settings, proxy),
        wording=proxy.get("options", {}).get("style"),
        default_shape=tuple(canvases[0]) if canvases[0] else None,
    )


def params_of_run(
    workdir: epath.PathLike, settings: Mapping[str, Any], weights: str, dtype: Any = None, step: int | None = None
) -> tuple[Any, int]:
    """(parameters in a checkpoint of a run, the newest by default, its step); adapters are added to their base.

    Args:
      settings: the run's config.json.
      dtype: of a base that is loaded again for adapters; other runs keep theirs.

    Raises:
      CheckpointError: there is no such checkpoint, or the base is gone.
    """
    from sgt_jax.checkpoints import runs
    from sgt_jax.inference import adapted

    if adapted.trains_adapters(settings):
        return adapted.params_of_run(workdir, settings, weights, dtype, step)
    return runs.restore_params(workdir, weights, step)


def _sampling(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a run's config says that its model paints: {mode: {steps, shift, guidance}, "palette": name or ""}.

    Runs from before configs said it were made for what they were evaluated with.
    """
    if "sampling" in settings:
        return settings["sampling"]
    modes = {"masks": ("segment",), "drawings": ("t2i", "edit"), "prompts": ("t2i",), "edits": ("edit",)}
    guessed: dict[str, Any] = {"palette": ""}
    for evaluator in settings.get("evaluators", {}).values():
        for mode in modes.get(evaluator.get("type"), ()):
            guidance = {"text_scale": float(evaluator.get("text_scale", 1.0))}
            guessed[mode] = {"steps": evaluator["steps"], "shift": evaluator["shift"], "guidance": guidance}
        if evaluator.get("type") == "masks":
            guessed["palette"] = guessed["palette"] or evaluator.get("palette", "")
    return guessed


def _palette_of_run(settings: Mapping[str, Any], proxy: Mapping[str, Any]) -> str | None:
    """The palette of the proxy's options, if they name one, or of `sampling`; None leaves the colours to be found."""
    return proxy.get("options", {}).get("palette") or _sampling(settings)["palette"] or None


def defaults_of_run(family: Family, settings: Mapping[str, Any]) -> dict[str, Settings]:
    """The settings of every mode that a run's config has, and the family's own for the others."""
    rule, said = settings["data"].get("vit_size"), _sampling(settings)
    out = {}
    for mode, own in family.defaults.items():
        if rule:
            own = dataclasses.replace(own, vit=(rule["min_size"], rule["max_size"]))
        if how := said.get(mode):
            guidance = family.guidance(**how["guidance"])
            more = {name: how[name] for name in ("condition",) if name in how}  # what only some families have
            own = dataclasses.replace(own, steps=how["steps"], shift=float(how["shift"]), guidance=guidance, **more)
        out[mode] = own
    return out
