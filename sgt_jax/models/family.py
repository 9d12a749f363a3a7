"""The face of a model family: all that training, inference, planning, analysis and studies may know of one.

A family is a module with one object that has the face of `Family`; the registry below names the module, and nothing outside
the family's own rooms (`models/NAME/`, `data/layouts/NAME.py`, `parity/NAME/`) imports it. `config.family` says which one a
run trains; a run from before there were several has no such field and is "bagel".

To add one, write the module, add a line to `MODULES` (or call `register` from elsewhere), and see CONTRIBUTING.md.
"""

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from sgt_jax.batch import PackedBatch, TokenInfo
from sgt_jax.checkpoints.importing import Kept, Sharding
from sgt_jax.checkpoints.names import NameMap
from sgt_jax.data.layouts import Layout
from sgt_jax.data.pictures.resizing import ResizeRule
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import CheckpointError, UserError, hint
from sgt_jax.models.autoencoder.model import AutoencoderConfig
from sgt_jax.models.lora import AdapterPart
from sgt_jax.models.sampling import Params, SamplingSteps, Settings

Notify = Callable[[Any], None]  # called on the host in every step of a loop, for progress bars

# Family -> module with an object FAMILY. Imported when it is asked for, so that a run imports only its own.
MODULES = {"bagel": "sgt_jax.models.bagel.family", "omnigen2": "sgt_jax.models.omnigen2.family"}
DEFAULT = "bagel"


class UnsupportedError(UserError):
    """A family lacks what was asked for; the message names both."""


class ModelConfig(Protocol):
    """A checked, frozen, hashable dataclass: the sizes of a model and how it is computed."""

    @property
    def latent_width(self) -> int:
        """Numbers in one latent token."""

    @property
    def vae(self) -> AutoencoderConfig:
        """The autoencoder's."""

    @property
    def remat(self) -> str:
        """What the backward pass computes again: a key of `models.stack.REMAT`."""

    @property
    def attention(self) -> str:
        """Who computes attention: a key of `models.attention.BACKENDS`, or "auto"."""

    @property
    def attention_block(self) -> int:
        """Queries that attention works on at a time, where a backend works on blocks."""

    def replace(self, **changes: Any) -> "ModelConfig":
        """A copy with some fields changed."""

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict; `Family.config` restores it."""


class Model(Protocol):
    """Pure functions of parameters; holds no arrays.

    Attributes:
      config: its sizes.
    """

    config: ModelConfig

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters; pure, so it can be traced for shapes."""

    def draw(self, key: jax.Array, batch: PackedBatch) -> Any:
        """Everything random in one forward of `batch`, the times of noisy latents by the family's own law included."""

    def noisy(self, batch: PackedBatch) -> jax.Array:
        """bool [R, G]: the slots that carry flow loss; known from the batch alone."""

    def forward(
        self, params: Params, batch: PackedBatch, draws: Any, capture: Sequence[str] = ()
    ) -> dict[str, jax.Array]:
        """One training forward.

        Returns: logits float32 [R, L, vocabulary] of lane "labels"; velocity and velocity_target float32 [R, G, F]; noisy
        bool [R, G]; and inner states by the names in `capture`.
        """

    def encode_moments(self, params: Params, pixels: jax.Array) -> jax.Array:
        """The autoencoder's encoder: [N, H, W, 3], uint8 or in -1..1 -> moments [N, h, w, 2C], mean channels first."""

    def decode_latent(self, params: Params, z: jax.Array) -> jax.Array:
        """The autoencoder's decoder: unscaled latents [N, h, w, C] -> pictures [N, H, W, 3], about in -1..1."""


class Costs(Protocol):
    """Work and memory of a training step by formula.

    Attributes:
      attention: {name of an attention: the lanes whose slots it joins; some may be absent from a run}.
      advice: what else to change, as a text, where a step does not fit: parts that need not be trained.
    """

    attention: Mapping[str, tuple[str, ...]]
    advice: tuple[str, ...]

    def typical_row(self, budgets: Mapping[str, int]) -> Mapping[str, TokenInfo]:
        """For each attention the facts [1, S] of a typical row that fills these budgets."""

    def training_flops(
        self, slots: Mapping[str, float], pairs: Mapping[str, float], freeze: Sequence[str] = ()
    ) -> dict[str, float]:
        """FLOPs forward and backward, by part: of real slots per lane and allowed pairs per attention, all rows."""

    def activation_bytes(self, lanes: Mapping[str, int], rows: float, mesh: Mapping[str, int]) -> float:
        """A guess of what the backward pass keeps on one chip that holds `rows` rows of these lanes at a time."""

    def exchanged_bytes(self, lanes: Mapping[str, int], rows: float, mesh: Mapping[str, int]) -> float:
        """A guess of the activations that one chip sends in a step, when it works on `rows` rows in all."""


class AutoencoderFiles(Protocol):
    """How the family publishes its autoencoder, which a run may take from a file of its own."""

    def find(self, folders: Iterable[str | os.PathLike]) -> str | None:
        """The file with the autoencoder in the first of some published folders that has one."""

    def load(self, path: str | os.PathLike, config: ModelConfig) -> Params:
        """What belongs at params["vae"]."""

    def fingerprint(self, path: str | os.PathLike) -> str:
        """A text that two files share if and only if their encoders hold the same numbers."""


class Loaded(NamedTuple):
    """Parameters from a published folder, and a text that says what was read, recomputed and initialised."""

    params: Params
    summary: str


class Attended(NamedTuple):
    """Inner states of some layers, as attention used them, and the facts of their slots.

    Attributes:
      q, k: of every layer [R, S, H, D] and [R, S, K, D].
      hidden: the residual stream after every layer, [R, S, width].
      info: decides which slot sees which.
    """

    q: Sequence[jax.Array]
    k: Sequence[jax.Array]
    hidden: Sequence[jax.Array]
    info: TokenInfo

    @classmethod
    def of(cls, captured: Mapping[str, jax.Array], layers: Sequence[int], info: TokenInfo) -> "Attended":
        """From captured states "q_3", "k_3", "hidden_3"."""
        return cls(*([captured[f"{kind}_{i}"] for i in layers] for kind in ("q", "k", "hidden")), info)


def attention_names(layers: Sequence[int]) -> tuple[str, ...]:
    """What to capture for `Attended.of`."""
    return tuple(f"{kind}_{i}" for i in layers for kind in ("q", "k", "hidden"))


class Family(Protocol):
    """A model family. A class may inherit from it and take over what has a body here.

    Attributes:
      name: as in `config.family`.
      compute_fields: fields of `config.model` that change no shape: they hold for a loaded checkpoint, too.
      token_lanes: lanes whose real slots count as tokens in the log.
      defaults: settings of sampling by mode: "chat", "t2i", "edit", "segment".
      autoencoder: its files.
      paints_any_size: a picture of a size that is asked for is painted at the nearest one that the model can paint, and
        resized to it; else it has the nearest one.
      references: pictures that an edit may have.
      thinks: it was trained to plan a picture in words before it paints.
    """

    name: str
    compute_fields: tuple[str, ...]
    token_lanes: tuple[str, ...]
    defaults: Mapping[str, Settings]
    autoencoder: AutoencoderFiles
    paints_any_size: bool = False
    references: int = 1
    thinks: bool = False

    # -- Sizes ---------------------------------------------------------------------------------------------------------

    def config(self, values: Mapping[str, Any]) -> ModelConfig:
        """From the nested dicts of `config.model`, or of `ModelConfig.to_dict`. Raises ConfigError."""

    def recognises(self, folder: str | os.PathLike) -> bool:
        """Whether a folder looks like a published checkpoint of this family."""

    def config_of_folder(
        self, folder: str | os.PathLike, base: str | os.PathLike | None = None, strip_prefix: str = "", **compute: Any
    ) -> ModelConfig:
        """From a published folder; `compute` are values of `compute_fields`, the others as in `load`.

        Raises:
          CheckpointError: a file is absent or damaged, or asks for what the model does not compute.
        """

    def with_tokens(self, config: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
        """The config with this tokenizer's special tokens, as they are published with the weights."""
        return config

    # -- Parts ---------------------------------------------------------------------------------------------------------

    def layout(
        self, config: ModelConfig, tokenizer: Tokenizer | None, *, canvases: Sequence[tuple[int, int]] = (),
        tokenised: bool = False, dropout: Mapping[str, float] | None = None,
    ) -> Layout:  # fmt: skip
        """How plans become lanes. Without a tokenizer the config's special tokens count, as in planning.

        Args:
          canvases: (height, width) of all pictures that the autoencoder encodes in the step.
          tokenised: they come as moments instead.
          dropout: chance by type of a droppable item.
        """

    def model(self, config: ModelConfig) -> Model:
        """The model."""

    def steps(self, model: Model, layout: Layout, notify: Notify | None = None) -> SamplingSteps:
        """What its sampler is made of."""

    def guidance(self, text_scale: float, **others: Any) -> Any:
        """Guidance by text alone, 1 switches it off; `others` are the family's own fields, as in `config.sampling`."""

    def drawing(self, config: ModelConfig, defaults: Mapping[str, Settings], seen: bool) -> tuple[int, Settings] | None:
        """The id by which an answer asks for a picture in its stead, and how that is painted; `seen`: after pictures.

        None where answers are texts.
        """
        return None

    # -- Checkpoints ---------------------------------------------------------------------------------------------------

    def load(
        self, folder: str | os.PathLike, config: ModelConfig, *, base: str | os.PathLike | None = None,
        weights: str = "ema", dtype: Any = None, sharding: Sharding | None = None, training: bool = False,
        key: jax.Array | None = None, strip_prefix: str = "", kept: Kept | None = None,
    ) -> Loaded:  # fmt: skip
        """Streams a published folder into parameters.

        Args:
          base: a second folder for files that the first lacks.
          weights: "ema" or "params".
          dtype: of all parameters; None keeps the files'.
          training: fixed tables are computed anew in float32 instead of read.
          key: for what is initialised.
          strip_prefix: taken off the names of tensors, such as "module."; a family may know its prefixes and take none.
          kept: what the parameters hold of a leaf that was read, by its path; None is the leaf itself.
        """

    def save(
        self, params: Any, config: ModelConfig, out: str | os.PathLike, dtype: Any = None, *,
        copy_from: str | os.PathLike | None = None, extra_files: Iterable[str | os.PathLike] = (),
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:  # fmt: skip
        """Writes a published folder; `params` is a tree, or a function from a path to a leaf that may be lazy."""

    def linears(self, config: ModelConfig) -> NameMap:
        """{module under every name that adapters use: where its weight [out, in] lives}. Raises CheckpointError."""
        raise CheckpointError(self.name, "takes no adapters.", "Leave --adapter out.")

    def adapter_modules(self, config: ModelConfig) -> NameMap:
        """`linears` under one name a module, which is the one that PEFT writes. Raises as `linears` does."""
        return self.linears(config)

    def adapter_parts(self, config: ModelConfig) -> Mapping[str, AdapterPart]:
        """The modules that `config.adapter.targets` means by "und" and by "gen"."""
        return {}

    def projections(self, config: ModelConfig) -> str:
        """A pattern for the modules whose weights a base of integers keeps as such: those of the layers that repeat."""
        return "|".join(part.pattern for part in self.adapter_parts(config).values())

    # -- Pictures ------------------------------------------------------------------------------------------------------

    def reading_rule(self, config: ModelConfig, sides: tuple[int, int], max_pixels: int | None = None) -> ResizeRule:
        """The resize rule in front of the understanding encoder, for (smallest short, largest long side) wanted."""

    def painting_rule(self, config: ModelConfig) -> ResizeRule:
        """The resize rule of pictures that the autoencoder reads; its stride is that of what the model paints."""

    def largest_side(self, config: ModelConfig) -> int:
        """Pixels of the longest side that the model can paint."""

    # -- Planning and analysis -----------------------------------------------------------------------------------------

    def divisible(self, config: ModelConfig) -> dict[str, dict[str, int]]:
        """{logical axis: {what: size}}: what a mesh that cuts this axis up must divide."""
        return {}

    def costs(self, config: ModelConfig) -> Costs:
        """Work and memory by formula. Raises UnsupportedError."""
        raise UnsupportedError(f"family '{self.name}' has no formulas of work and memory, so nothing can be planned")

    def decoder_size(self, config: ModelConfig) -> tuple[int, int]:
        """Layers and width of the decoder that reads pictures and texts, for analyses. Raises UnsupportedError."""
        raise UnsupportedError(f"family '{self.name}' has no analyses: nothing says where its decoder's layers are")

    def reading_states(
        self, model: Model, params: Params, batch: PackedBatch, layers: Sequence[int]
    ) -> dict[str, jax.Array]:  # fmt: skip
        """States [R, S, width] of what is read: "vit" (a slot each, after the encoder) and "connector" (a slot or a cell
        each), of lane "vit"; "layer 3" (after that layer of the decoder), whose first slots are those of lane "und".

        Raises UnsupportedError.
        """
        raise UnsupportedError(f"family '{self.name}' has no analyses: nothing says what its layers read")

    def painting_layers(self, config: ModelConfig) -> int:
        """How many layers paint: those of the decoder, where one does both."""
        return self.decoder_size(config)[0]

    def reading_attention(
        self, model: Model, params: Params, batch: PackedBatch, layers: Sequence[int]
    ) -> "Attended":  # fmt: skip
        """What attention saw while a batch was read; the first slots are those of lane "und". Raises UnsupportedError."""
        raise UnsupportedError(f"family '{self.name}' has no analysis 'attention'")

    def painting_attention(
        self, model: Model, params: Params, batch: PackedBatch, x: jax.Array, t: jax.Array, layers: Sequence[int]
    ) -> tuple[jax.Array, "Attended"]:  # fmt: skip
        """Velocities of noisy latents x [R, G, F] at a time, and what attention saw: slots of `text_slots`, then latents.

        Raises UnsupportedError.
        """
        raise UnsupportedError(f"family '{self.name}' has no analysis 'attention'")

    def text_slots(self, batch: PackedBatch) -> np.ndarray:
        """Token ids [R, S] of the slots in front of the latents while a picture is painted; -1 for padding."""
        raise UnsupportedError(f"family '{self.name}' has no analysis 'attention'")

    def check_analysis(self, name: str) -> None:
        """Whether "attention" or "align", which need the inside of one decoder for both tasks, exist for it.

        Raises:
          UnsupportedError: they do not.
        """
        raise UnsupportedError(f"family '{self.name}' has no analysis '{name}'; it works with one decoder for both tasks")


_registered: dict[str, Family] = {}


def register(family: Family) -> None:
    """Adds a family from elsewhere, under its own name."""
    _registered[family.name] = family


def by_name(name: str) -> Family:
    """A family by its name in `config.family`.

    Raises:
      UnsupportedError: there is none of that name.
    """
    if name not in _registered:
        if name not in MODULES:
            raise UnsupportedError(f"no model family '{name}'; {hint(name, sorted({*MODULES, *_registered}))}")
        _registered[name] = importlib.import_module(MODULES[name]).FAMILY
    return _registered[name]


def of_config(config: Mapping[str, Any]) -> Family:
    """The family of a run's config, or of what its config.json holds."""
    return by_name(config.get("family") or DEFAULT)


def of_folder(folder: str | os.PathLike) -> Family:
    """The family of a published folder; the default one where none knows it, so that its errors say what is missing."""
    families = [by_name(name) for name in dict.fromkeys([*MODULES, *_registered])]
    return next((family for family in families if family.recognises(folder)), by_name(DEFAULT))
