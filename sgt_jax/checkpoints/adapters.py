"""LoRA adapters in the layout of PEFT: a folder with adapter_config.json and adapter_model.safetensors.

What PEFT computes for a linear layer of weight W [out, in]: y = x W^T + s (x A^T) B^T, with A [r, in], B [out, r] and
s = alpha / r, or alpha / sqrt(r) with `use_rslora`; with DoRA the rows of W + s B A are scaled to the lengths that
`lora_magnitude_vector` holds. Settings that would compute anything else are refused by name. Also the layout of diffusers,
which OmniGen2's trainer writes: pytorch_lora_weights.safetensors, names below "transformer.", alpha equal to r.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.checkpoints.header import shown
from sgt_jax.checkpoints.safetensors import Weights
from sgt_jax.errors import CheckpointError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
DIFFUSERS = "pytorch_lora_weights.safetensors"
PREFIX = "base_model.model."
_A, _B, _MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
_WEIGHT = ".weight"
_SHOWN = 4  # names of a kind in one message
# How PEFT's file begins to train does not matter for what it computes, except for these, which change the base, too.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Settings that this module computes, and those that matter to training or to bookkeeping alone.
_COMPUTED = frozenset(
    ("peft_type", "r", "lora_alpha", "target_modules", "exclude_modules", "rank_pattern", "alpha_pattern", "use_rslora",
     "use_dora", "fan_in_fan_out")
)  # fmt: skip
_NOTHING_TO_COMPUTE = frozenset(
    ("auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config", "inference_mode",
     "init_lora_weights", "loftq_config", "lora_dropout", "lora_ga_config", "megatron_core", "peft_version",
     "qalora_group_size", "revision", "task_type", "runtime_config")
)  # fmt: skip
_NEUTRAL = (None, False, "none", [], {}, "")


class Settings(NamedTuple):
    """What adapter_config.json says.

    Attributes:
      rank, alpha: of modules that no pattern names.
      targets: names of modules, matched by the end of a path, or one regular expression for the whole path.
      excluded: likewise; these are left out.
      ranks, alphas: {pattern: value}, matched by the end of a path; the first that matches counts.
      rslora: scale by alpha / sqrt(r).
      dora: rows have the lengths of a magnitude vector.
      dropout: of the adapters' input while training.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] | str
    excluded: tuple[str, ...] | str = ()
    ranks: Mapping[str, int] = {}
    alphas: Mapping[str, float] = {}
    rslora: bool = False
    dora: bool = False
    dropout: float = 0.0

    def adapts(self, module: str) -> bool:
        """Whether PEFT adapts the module at this path."""
        return not _matches(self.excluded, module) and _matches(self.targets, module)

    def rank_of(self, module: str) -> int:
        """The rank r of a module's adapter."""
        return _by_pattern(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        """s of a module's adapter."""
        alpha, rank = _by_pattern(self.alphas, module, self.alpha), self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


class Low(NamedTuple):
    """The adapter of one module: a [r, in], b [out, r], scale s, magnitude [out] of DoRA or None; float32."""

    a: np.ndarray
    b: np.ndarray
    scale: float
    magnitude: np.ndarray | None = None

    def merged(self, weight: np.ndarray, strength: float = 1.0) -> np.ndarray:
        """The weight [out, in] that computes what weight and adapter compute together, float32.

        Args:
          strength: what the scale s is multiplied with, as `--adapter-scale` asks.
        """
        weight = np.asarray(weight, np.float32)
        total = weight + np.float32(self.scale * strength) * (self.b @ self.a)
        if self.magnitude is None:
            return total
        return total * (self.magnitude / np.linalg.norm(total, axis=1))[:, None]


class Adapter(NamedTuple):
    """Adapters by the path of their module.

    Attributes:
      where: the folder or file, for messages.
      modules: {path: Low}.
    """

    where: str
    modules: Mapping[str, Low]


def _matches(targets: Sequence[str] | str, module: str) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in targets)


def _by_pattern(patterns: Mapping[str, Any], module: str, otherwise: Any) -> Any:
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), otherwise)


# -- In ----------------------------------------------------------------------------------------------------------------


def read(folder: str | os.PathLike) -> tuple[Settings, Adapter]:
    """Reads a folder in the layout of PEFT.

    Raises:
      CheckpointError: files are absent or damaged, a setting is not computed here, or tensors do not make whole adapters of
        the ranks that the settings name.
    """
    config = os.path.join(folder, CONFIG)
    try:
        with open(config, encoding="utf-8") as file:
            values = json.load(file)
    except (OSError, ValueError) as error:
        why = f"cannot be read ({error})."
        raise CheckpointError(config, why, "Give the folder that PEFT or a run of ours wrote.") from None
    settings = settings_of(values, config)
    path = os.path.join(folder, WEIGHTS)
    found = _paired(path, PREFIX)
    lows, wrong = {}, []
    for module, (a, b, magnitude) in found.items():
        rank = settings.rank_of(module)
        if not settings.adapts(module):
            wrong.append(f"{shown(module)} is not among target_modules")
        elif a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
            wrong.append(f"{shown(module)}: lora_A {list(a.shape)} and lora_B {list(b.shape)} are not of rank {rank}")
        elif settings.dora != (magnitude is not None) or (magnitude is not None and magnitude.shape != b.shape[:1]):
            wrong.append(f"{shown(module)}: use_dora is {settings.dora}, but its lora_magnitude_vector says otherwise")
        else:
            lows[module] = Low(a, b, settings.scale_of(module), magnitude)
    if wrong:
        raise CheckpointError(path, f"does not fit its {CONFIG}: {_some(wrong)}.", "Take both from one run.")
    return settings, Adapter(os.fspath(folder), lows)


def read_any(place: str | os.PathLike) -> Adapter:
    """An adapter in either layout: a folder of PEFT, or a folder with (or the path of) a file of diffusers.

    Raises:
      CheckpointError: it is neither, or see `read` and `read_diffusers`.
    """
    if os.path.isfile(place):
        return read_diffusers(place)
    if not os.path.exists(os.path.join(place, CONFIG)) and os.path.exists(os.path.join(place, DIFFUSERS)):
        return read_diffusers(os.path.join(place, DIFFUSERS))
    return read(place)[1]


def digest(place: str | os.PathLike) -> str:
    """A text that two adapters share if and only if their files hold the same bytes."""
    files = [place] if os.path.isfile(place) else [os.path.join(place, name) for name in (CONFIG, WEIGHTS, DIFFUSERS)]
    found = hashlib.sha256()
    for path in filter(os.path.exists, files):
        with open(path, "rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]


def settings_of(values: Mapping[str, Any], where: str) -> Settings:
    """The settings of an adapter_config.json.

    Raises:
      CheckpointError: it is not LoRA, or something is set that is not computed here, by name.
    """
    advice = "Merge the adapter with PEFT (merge_and_unload) and convert the merged weights."
    if values.get("peft_type") != "LORA":
        raise CheckpointError(where, f"peft_type is {values.get('peft_type')!r}, and only LORA is computed.", advice)
    start = values.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise CheckpointError(where, f"init_lora_weights = {start!r} changes the base, too.", advice)
    others = {key: value for key, value in values.items() if key not in _COMPUTED | _NOTHING_TO_COMPUTE}
    asked = [f"{key} = {value!r}" for key, value in others.items() if value not in _NEUTRAL and key != "megatron_core"]
    if asked:
        raise CheckpointError(where, f"asks for what is not computed here: {_some(asked)}.", advice)
    try:
        targets, excluded = (values.get(key) or () for key in ("target_modules", "exclude_modules"))
        if targets == "all-linear":
            raise ValueError("target_modules = 'all-linear' names no module; PEFT writes the list when it saves")
        settings = Settings(
            int(values["r"]), float(values["lora_alpha"]),
            *(x if isinstance(x, str) else tuple(map(str, x)) for x in (targets, excluded)),
            {str(key): int(value) for key, value in (values.get("rank_pattern") or {}).items()},
            {str(key): float(value) for key, value in (values.get("alpha_pattern") or {}).items()},
            bool(values.get("use_rslora")), bool(values.get("use_dora")), float(values.get("lora_dropout") or 0.0),
        )  # fmt: skip
        for pattern in (*settings.ranks, *settings.alphas, *(x for x in (targets, excluded) if isinstance(x, str))):
            re.compile(pattern)
        if min((settings.rank, *settings.ranks.values())) < 1:
            raise ValueError("a rank is below 1")
    except (KeyError, TypeError, ValueError, AttributeError, re.error) as error:
        raise CheckpointError(where, f"is not a LoRA config ({type(error).__name__}: {error}).", advice) from None
    return settings


def read_diffusers(path: str | os.PathLike, prefix: str = "transformer.", alpha: float | None = None) -> Adapter:
    """Reads a file in the layout of diffusers; alpha is r unless given.

    Raises:
      CheckpointError: the file is damaged, or does not hold pairs of lora_A and lora_B below the prefix.
    """
    lows = {}
    for module, (a, b, magnitude) in _paired(path, prefix).items():
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or magnitude is not None:
            why = f"{shown(module)}: lora_A {list(a.shape)} and lora_B {list(b.shape)} make no product."
            raise CheckpointError(path, why, "Give a LoRA file as diffusers writes it.")
        lows[module] = Low(a, b, 1.0 if alpha is None else alpha / a.shape[0])
    return Adapter(os.fspath(path), lows)


def _paired(path: str | os.PathLike, prefix: str) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """{module: (A, B, magnitude or None)} of a file, float32; every tensor belongs to a pair."""
    with Weights(path) as file:
        names = set(file.tensors)
        modules = sorted(
            name.removeprefix(prefix).removesuffix(_A)
            for name in names
            if name.startswith(prefix) and name.endswith(_A)
        )
        wanted = {f"{prefix}{module}{end}" for module in modules for end in (_A, _B)}
        optional = {f"{prefix}{module}{_MAGNITUDE}" for module in modules}
        strange = sorted(map(shown, names - wanted - optional))
        lost = sorted(map(shown, wanted - names))
        if strange or lost or not modules:
            why = " ".join(
                f"{len(which)} {kind}: {_some(which)}."
                for kind, which in (("unknown", strange), ("absent", lost))
                if which
            )
            raise CheckpointError(path, f"holds no whole adapters below {prefix!r}. {why}".strip(), "Give LoRA files.")

        def array(name: str) -> np.ndarray | None:
            return np.asarray(file.read(name)).astype(np.float32) if name in names else None

        return {module: tuple(array(f"{prefix}{module}{end}") for end in (_A, _B, _MAGNITUDE)) for module in modules}


def bind(adapter: Adapter, shapes: Mapping[str, Sequence[int]]) -> Mapping[str, Low]:
    """The adapters, checked against the modules of a model: {path: shape [out, in] of its weight}.

    Raises:
      CheckpointError: a module does not exist (all such are named), has another shape, or there are no adapters at all.
    """
    absent = [shown(module) for module in adapter.modules if module not in shapes]
    if absent or not adapter.modules:
        bound = len(adapter.modules) - len(absent)
        why = f"{bound} of {len(adapter.modules)} adapters belong to a module of this model. No module: {_all(absent)}."
        raise CheckpointError(adapter.where, why, "Give an adapter of this model.")
    wrong = [
        f"{shown(module)}: B A is {[low.b.shape[0], low.a.shape[1]]}, the weight {list(shapes[module])}"
        for module, low in adapter.modules.items()
        if [low.b.shape[0], low.a.shape[1]] != list(shapes[module])
    ]
    if wrong:
        raise CheckpointError(adapter.where, f"is of another model: {_some(wrong)}.", "Give an adapter of this model.")
    return adapter.modules


def merged(tensors: Mapping[str, np.ndarray], adapter: Adapter, strength: float = 1.0) -> dict[str, np.ndarray]:
    """Published tensors {name: array} with an adapter added to its modules' weights, each in its own dtype.

    `strength` multiplies its scales.

    Raises:
      CheckpointError: the adapter is of another model.
    """
    weights = {name.removesuffix(_WEIGHT): array for name, array in tensors.items() if name.endswith(_WEIGHT)}
    lows = bind(adapter, {module: array.shape for module, array in weights.items()})
    sums = {
        f"{module}{_WEIGHT}": low.merged(weights[module], strength).astype(weights[module].dtype)
        for module, low in lows.items()
    }
    return {**tensors, **sums}


def _some(lines: Sequence[str]) -> str:
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more


def _all(lines: Sequence[str]) -> str:
    return ", ".join(lines) or "there are none"
