"""Folders in BAGEL's published layout, streamed into (sharded) parameters; `export.py` writes them back.

A folder holds `llm_config.json`, `vit_config.json`, `ema.safetensors` (or shards with an index), `ae.safetensors` and
a tokenizer. What stands in no config file (sizes of the tables and of the autoencoder) is read off the tensors.
"""

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sgt_jax import trees
from sgt_jax.checkpoints import importing
from sgt_jax.checkpoints.header import Tensor, shown, strict_json
from sgt_jax.checkpoints.importing import Files, Kept, Sharding
from sgt_jax.checkpoints.names import Leaf, leaves
from sgt_jax.checkpoints.safetensors import Weights
from sgt_jax.errors import CheckpointError, ConfigError
from sgt_jax.models import foreign
from sgt_jax.models.autoencoder.flux_names import VAE_FILE
from sgt_jax.models.bagel.config import BagelConfig, LlmConfig, VitConfig
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.models.bagel.names import MODEL_FILE, TABLES, name_map

# Keys that a config file must have: a default that happens to load would train garbage.
_LLM_KEYS = {f.name for f in dataclasses.fields(LlmConfig)} - {"max_position_embeddings", "initializer_range"}
_VIT_KEYS = {f.name for f in dataclasses.fields(VitConfig)} - {"num_channels", "layer_norm_eps"}
_EXTRAS = ("golden_config.json", "sgt_config.json")  # our own; the last one present wins
_MODEL_FILES = {
    "ema": (MODEL_FILE, MODEL_FILE + ".index.json", "model.safetensors.index.json", "model.safetensors"),
    "params": ("model.safetensors", "model.safetensors.index.json"),
}
_ANCHOR = "llm2vae.weight"  # a name that every checkpoint has
_VAE_FILES = (VAE_FILE, VAE_FILE + ".index.json")


class Published(NamedTuple):
    """What `load_published` found: parameters (a nested dict of jax.Arrays), config, a text that says what was done."""

    params: dict[str, Any]
    config: BagelConfig
    summary: str


def load_published(
    folder: str | os.PathLike,
    config: BagelConfig | None = None,
    *,
    base: str | os.PathLike | None = None,
    weights: str = "ema",
    sharding: Sharding | None = None,
    dtype: Any = None,
    tables: str = "read",
    initialise: Sequence[str] = (),
    key: jax.Array | None = None,
    strip_prefix: str = "",
    kept: Kept | None = None,
) -> Published:
    """Streams a published folder into parameters; each process reads the bytes of its own shards only.

    Args:
      folder: the checkpoint. An SGT release holds `ema.safetensors` alone; name the BAGEL folder as `base` then.
      config: the model; by default `config_from_folder(folder, base)`.
      base: where files are taken from that `folder` lacks.
      weights: "ema", or "params" for the raw weights (`model.safetensors`) of a reference training folder.
      sharding: (path, shape) -> sharding of a leaf; None is the default device.
      dtype: of all parameters, such as "float32" for masters; None keeps the files'.
      tables: position tables: "read" from the file (inference) or "recompute" in float32 (training).
      initialise: regular expressions; published names that match may be absent and are initialised afresh (generation
        weights as copies of their understanding twins under `config.copy_init_moe`).
      key: for what is initialised.
      strip_prefix: taken off the names of tensors, such as "module.".
      kept: what the parameters hold of a leaf that was read, by its path; not together with `initialise`.

    Raises:
      CheckpointError: a file is absent, damaged or of another model; names that are missing, unexpected or misshaped
        are all listed in one message.
    """
    if tables not in ("read", "recompute"):
        raise ConfigError(f"tables '{tables}' do not exist; choose read or recompute")
    config = config_from_folder(folder, base, strip_prefix) if config is None else config
    names = name_map(config)
    recomputed = set(TABLES) if tables == "recompute" else set()
    allowed = {name for name in names if any(re.search(pattern, name) for pattern in initialise)}
    with open_folder(folder, base, weights, strip_prefix) as files:
        importing.check_names(folder, files.tensors, names, frozenset(recomputed | allowed))
        absent = {name for name in allowed if name not in files.tensors} - recomputed
        read, fresh = [], []
        for leaf in leaves(names):
            lacking = absent.intersection(leaf.names)
            if lacking and len(lacking) < len(leaf.names):
                why = f"lacks {', '.join(sorted(lacking))}, but has the other layers."
                raise CheckpointError(folder, why, "Stacked layers are read or initialised together.")
            (fresh if lacking or leaf.names[0] in recomputed else read).append(leaf)
        flat = importing.load_leaves(files, read, names, sharding, dtype, kept)
        flat |= _fresh(config, fresh, flat, sharding, dtype, key)
        summary = _summary(folder, files, [name for leaf in read for name in leaf.names], dtype)
    for verb, these in (("recomputed", recomputed), ("initialised", absent)):
        summary += f"\n  {verb}: {', '.join(sorted(these)) or 'nothing'}"
    return Published(trees.nested(flat), config, summary)


def open_folder(
    folder: str | os.PathLike, base: str | os.PathLike | None = None, weights: str = "ema", strip_prefix: str = ""
) -> Files:
    """All tensors of a published folder; close it after use (`with`).

    Raises:
      CheckpointError: a file is absent or damaged, or its names have a prefix that `strip_prefix` does not name.
    """
    if weights not in _MODEL_FILES:
        raise ConfigError(f"weights '{weights}' do not exist; choose ema or params")
    opened = [Weights(_find(folder, base, _MODEL_FILES[weights]))]
    try:
        # The index of some releases covers the autoencoder as well.
        if "decoder.conv_in.weight" not in opened[0].tensors:
            opened.append(Weights(_find(folder, base, _VAE_FILES)))
        _check_prefix(opened[0], strip_prefix)
        return Files(opened, strip_prefix)
    except CheckpointError:
        for one in opened:
            one.close()
        raise


def _check_prefix(weights: Weights, strip: str) -> None:
    """Raises a CheckpointError if the names are ours behind a prefix that was not to be stripped, as wrappers leave it."""
    if strip + _ANCHOR in weights.tensors:
        return
    behind = next((name for name in weights.tensors if name.endswith("." + _ANCHOR)), "")
    prefix = behind.removesuffix(_ANCHOR)
    if prefix:
        count = sum(name.startswith(prefix) for name in weights.tensors)
        why = f"{count} of {len(weights.tensors)} names begin with {shown(prefix)}, which ours do not."
        advice = f"Take it off: `sample --strip-prefix={prefix}`, in training config.init_strip_prefix."
        raise CheckpointError(weights.path, why, advice)


def config_from_folder(
    folder: str | os.PathLike, base: str | os.PathLike | None = None, strip_prefix: str = "", **changes: Any
) -> BagelConfig:
    """The config of a published folder: its JSON files, and the sizes of its tensors where no file says them.

    Args:
      strip_prefix: taken off the names of tensors.
      changes: fields that change no shape, such as scan_layers or dtype.

    Raises:
      CheckpointError: a file is absent or damaged, or files and tensors contradict each other.
    """
    parts = {}
    kinds = (("llm", LlmConfig, _LLM_KEYS, foreign.DECODER), ("vit", VitConfig, _VIT_KEYS, foreign.VISION))
    for name, part, needed, table in kinds:
        path = _find(folder, base, (f"{name}_config.json",))
        values = _json(path)
        if lacking := sorted(needed - values.keys()):
            raise CheckpointError(path, f"lacks {', '.join(lacking)}.", "Take the file of the release.")
        foreign.check(path, values, table)
        parts[name] = {f.name: values[f.name] for f in dataclasses.fields(part) if f.name in values}
        _check_numbers(path, part, parts[name])
    found = [Path(place) / name for place in (base, folder) if place is not None for name in _EXTRAS]
    extras = [(path, _json(path)) for path in found if path.exists()][-1:]
    path, said = extras[0] if extras else (Path(folder), {})
    with open_folder(folder, base, strip_prefix=strip_prefix) as files:
        model, vae = _measured(folder, files.tensors)
    for part, measured in (("model", model), ("vae", vae)):
        declared = said.get(part, {})
        for name, value in measured.items():
            if name in declared and declared[name] != value:
                why = f"says that {part}.{name} is {declared[name]}, but by the tensors it is {value}."
                raise CheckpointError(path, why, "Correct the file, or take the weights that belong to it.")
    values = {**said.get("model", {}), **model, **parts, "vae": {**said.get("vae", {}), **vae}}
    if "special_tokens" in said:
        values["special_tokens"] = said["special_tokens"]
    try:
        return BagelConfig.from_dict({**values, **changes})
    except (ValueError, TypeError) as error:
        raise CheckpointError(folder, f"its configs do not fit: {error}.", "Take the files of one release.") from None


def _check_numbers(path: str, part: type, values: Mapping[str, Any]):
    for field in dataclasses.fields(part):
        value = values.get(field.name, field.default)
        kinds = (int,) if isinstance(field.default, int) else (int, float)
        # The bound on layers keeps a damaged file from making us list a billion names.
        if type(value) not in kinds or value <= 0 or (field.name == "num_hidden_layers" and value > 10_000):
            raise CheckpointError(
                path, f"has an impossible {field.name} {shown(value)}.", "Take the file of the release."
            )


def _measured(folder: Any, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(model, vae) fields that the shapes of tensors say; absent tensors are left to the check of all names."""

    def side(name: str, axis: int) -> int | None:
        if name not in tensors or len(tensors[name].shape) <= axis:
            return None
        return tensors[name].shape[axis]

    def root(area: int | None, what: str) -> int | None:
        if area is None or math.isqrt(area) ** 2 == area:
            return None if area is None else math.isqrt(area)
        raise CheckpointError(folder, f"{what} has {area} entries, which is no square.", "Is this BAGEL?")

    def count(pattern: str) -> int:
        return 1 + max((int(m[1]) for name in tensors if (m := re.match(pattern, name))), default=-1)

    levels, blocks = count(r"encoder\.down\.(\d{1,3})\."), count(r"encoder\.down\.0\.block\.(\d{1,3})\.")
    widths = [side(f"encoder.down.{i}.block.0.conv1.weight", 0) for i in range(levels)]
    ch, z = side("encoder.conv_in.weight", 0), side("decoder.conv_in.weight", 1)
    vae = {
        "ch": ch,
        "ch_mult": [width // ch for width in widths] if ch and widths and None not in widths else None,
        "num_res_blocks": blocks or None,
        "z_channels": z,
        "in_channels": side("encoder.conv_in.weight", 1),
        "out_ch": side("decoder.conv_out.weight", 0),
    }
    token = side("vae2llm.weight", 1)
    model = {
        "max_latent_size": root(side("latent_pos_embed.pos_embed", 0), "latent_pos_embed.pos_embed"),
        "vit_max_num_patch_per_side": root(side("vit_pos_embed.pos_embed", 0), "vit_pos_embed.pos_embed"),
        "latent_patch_size": root(token // z, "a latent token of vae2llm.weight") if token and z else None,
    }
    return tuple({name: value for name, value in part.items() if value is not None} for part in (model, vae))


def _find(folder: Any, base: Any, names: Sequence[str]) -> str:
    """The first of some files in `folder`, else in `base`."""
    for place in (folder, base):
        if place is not None and not os.path.isdir(place):
            raise CheckpointError(place, "is not a folder.", "Give a folder in the layout of BAGEL-7B-MoT.")
    for place in (folder, base):
        for name in names if place is not None else ():
            if os.path.exists(path := os.path.join(place, name)):
                return path
    advice = "Give a folder in the layout of BAGEL-7B-MoT; files that an SGT release lacks are in the BAGEL folder."
    raise CheckpointError(folder, f"holds no {names[0]}.", advice)


def _json(path: str | os.PathLike) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = strict_json(os.fspath(path), file.read(1 << 20), "text")
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror}).", "Check its permissions.") from None
    if not isinstance(found, dict):
        raise CheckpointError(path, "is not a JSON object.")
    return found


def _fresh(
    config: BagelConfig, missing: Sequence[Leaf], loaded: Mapping[str, jax.Array], sharding: Sharding | None,
    dtype: Any, key: jax.Array | None,
) -> dict[str, jax.Array]:  # fmt: skip
    """Leaves that no file brings; position tables always in float32."""
    out, wanted = {}, []
    for leaf in missing:
        twin = leaf.path.replace("/gen/", "/und/").replace("norm_gen", "norm_und")
        if config.copy_init_moe and twin != leaf.path and twin in loaded:
            out[leaf.path] = jnp.copy(loaded[twin])  # a real copy: the two are trained apart
        else:
            wanted.append(leaf)

    def init(key: jax.Array) -> list[jax.Array]:
        tree = Bagel(config).init(key)  # whatever is not returned is not computed
        found = {leaf.path: trees.at(tree, leaf.path) for leaf in wanted}
        return [x if dtype is None or path.endswith("/table") else x.astype(dtype) for path, x in found.items()]

    if wanted:
        places = [sharding(leaf.path, leaf.shape) for leaf in wanted] if sharding else None
        arrays = jax.jit(init, out_shardings=places)(jax.random.key(0) if key is None else key)
        out |= {leaf.path: array for leaf, array in zip(wanted, arrays)}
    return out


def _summary(folder: Any, files: Files, names: Iterable[str], dtype: Any) -> str:
    kept = set(names)
    lines = [f"restored from {os.fspath(folder)}" + (f", as {jnp.dtype(dtype)}" if dtype is not None else "")]
    for weights in files.opened:
        own = [tensor for name, tensor in weights.tensors.items() if name in kept]
        kinds = ", ".join(sorted({tensor.dtype.name for tensor in own}))
        values = sum(math.prod(tensor.shape) for tensor in own)
        lines.append(f"  {os.path.basename(weights.path)}: {len(own)} tensors, {values:,} values, {kinds}")
    return "\n".join(lines)
