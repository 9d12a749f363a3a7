"""The `mllm/` folder of a pipeline: its config in both styles, and its weights streamed into (sharded) parameters."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from sgt_jax.checkpoints import importing
from sgt_jax.checkpoints.header import shown, strict_json
from sgt_jax.checkpoints.importing import Files, Renamed, Sharding
from sgt_jax.checkpoints.safetensors import Weights
from sgt_jax.errors import CheckpointError, ConfigError
from sgt_jax.models.omnigen2.config import DitConfig, OmniGen2Config, TextConfig, TokenIds, VisionConfig, known, make
from sgt_jax.models.omnigen2.mllm.names import HEAD, mllm_names, published_name

FILE = "model.safetensors"
# A default that happens to load would train garbage.
_NEEDED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
           "vocab_size", "rms_norm_eps", "rope_theta", "mrope_section")  # fmt: skip
# What ours takes for granted: {key: the value that it must have where it is there}.
_FIXED = {"hidden_act": "silu", "use_sliding_window": False}
_ALIASES = {"in_chans": "in_channels", "spatial_patch_size": "patch_size"}
_COUNTS = {"rms_norm_eps": float, "rope_theta": float, "initializer_range": float, "tokens_per_second": float}
_ADVICE = "Take the file of the release."


class MllmConfig(NamedTuple):
    """What `mllm/config.json` says."""

    text: TextConfig
    vision: VisionConfig
    tokens: TokenIds

    def model_config(self, **compute: Any) -> OmniGen2Config:
        """The config of a model of which only this part is used; `compute` says how."""
        return OmniGen2Config(
            text=self.text, vision=self.vision, tokens=self.tokens,
            dit=DitConfig(text_feat_dim=self.text.hidden_size), **compute,
        )  # fmt: skip


def mllm_config(folder: str | os.PathLike) -> MllmConfig:
    """The config of an `mllm/` folder, flat (text fields at the top) or nested (`text_config`).

    Raises:
      CheckpointError: the file is absent, damaged, lacks a size, or describes a model that ours cannot be.
    """
    path = os.path.join(folder, "config.json")
    values = read_json(path)
    nested = values.get("text_config", {})
    if not isinstance(nested, dict) or not isinstance(values.get("vision_config"), dict):
        raise CheckpointError(path, "has no vision_config, or a text_config that is no object.", _ADVICE)
    flat = {**values, **nested}
    given = {**values.get("vision_config")}
    for part in (flat, given):
        for name, wanted in _FIXED.items():
            if part.get(name, wanted) != wanted:
                raise CheckpointError(path, f"has {name} {shown(part[name])}.", f"Only {wanted} is supported.")
    rope = flat.get("rope_scaling") or flat.get("rope_parameters") or {}
    if isinstance(rope, dict):
        if rope.get("rope_type", rope.get("type", "default")) not in ("default", "mrope"):
            raise CheckpointError(path, f"has the rotary type {shown(rope.get('rope_type'))}.", "Only mrope is supported.")
        flat = {**{k: rope[k] for k in ("mrope_section", "rope_theta") if k in rope}, **flat}
    if lacking := [name for name in _NEEDED if name not in flat]:
        raise CheckpointError(path, f"lacks {', '.join(lacking)}.", _ADVICE)
    for alias, name in _ALIASES.items():
        if alias in given:
            given.setdefault(name, given[alias])
    tokens = {**known(TokenIds, values), "im_end_token_id": flat.get("eos_token_id"),
              "pad_token_id": flat.get("pad_token_id", flat.get("bos_token_id"))}  # fmt: skip
    parts = (
        (TextConfig, known(TextConfig, flat), "text"),
        (VisionConfig, known(VisionConfig, given), "vision_config"),
        (TokenIds, {name: value for name, value in tokens.items() if value is not None}, "tokens"),
    )
    try:
        return MllmConfig(*(make(cls, _checked(path, found), where) for cls, found, where in parts))
    except ConfigError as error:
        raise CheckpointError(path, f"cannot be used: {error}.", "Correct the file.") from None


def _checked(path: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same values, each of the type that its field has."""
    for name, value in values.items():
        many = name in ("mrope_section", "fullatt_block_indexes")
        kind = bool if name == "tie_word_embeddings" else _COUNTS.get(name, int)
        items = value if many and isinstance(value, list) else [value]
        for item in items:
            fits = type(item) is kind or (kind is float and type(item) is int)
            low = 0 if many or name.endswith("token_id") else 1
            if (many and not isinstance(value, list)) or not fits or (kind is int and item < low):
                raise CheckpointError(path, f"has {name} {shown(value)}, which is not possible.", "Correct the file.")
            if kind is float and item <= 0:
                raise CheckpointError(path, f"has {name} {shown(value)}, which is not positive.", "Correct the file.")
    return values


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
      CheckpointError: the file is absent or damaged, or holds something else.
    """
    try:
        with open(path, "rb") as file:
            found = strict_json(os.fspath(path), file.read(1 << 24), "text")
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror}).", "Check path and permissions.") from None
    if not isinstance(found, dict):
        raise CheckpointError(path, "is not a JSON object.")
    return found


def open_weights(folder: str | os.PathLike, file: str = FILE) -> Weights:
    """The weights of a folder, single or sharded.

    Raises:
      CheckpointError: there are none, both forms are there, or one is damaged.
    """
    single = os.path.join(folder, file)
    index = single + ".index.json"
    found = [path for path in (single, index) if os.path.exists(path)]
    if len(found) != 1:
        why = f"holds both {file} and its index." if found else f"holds no {file}, whole or with an index of shards."
        raise CheckpointError(folder, why, "Keep one of the two." if found else "Download the folder completely.")
    return Weights(found[0])


def without_tied_head(names: Mapping[str, Any], tied: bool) -> frozenset[str]:
    """Names that a file may hold besides: some writers store the tied head although it is the table."""
    return frozenset((HEAD,)) if tied and HEAD not in names else frozenset()


def load_mllm(
    folder: str | os.PathLike, *, sharding: Sharding | None = None, dtype: Any = None, **compute: Any
) -> tuple[dict[str, Any], OmniGen2Config]:
    """(parameters of `Mllm(config)`, config) of an `mllm/` folder; `compute` are fields such as scan_layers.

    Raises:
      CheckpointError: files are absent, damaged or of another model.
    """
    config = mllm_config(folder).model_config(**compute)
    names = mllm_names(config)
    with Files([Renamed(open_weights(folder), published_name)]) as files:
        files.drop(without_tied_head(names, config.text.tie_word_embeddings))
        importing.check_names(folder, files.tensors, names)
        return importing.load_tree(files, names, sharding, dtype), config
