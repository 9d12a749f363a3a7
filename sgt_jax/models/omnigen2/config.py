"""What an OmniGen2 model is: sizes with the names of its published config files, and how to compute it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sgt_jax.errors import ConfigError, hint
from sgt_jax.models.autoencoder.model import AutoencoderConfig
from sgt_jax.models.stack import REMAT

TIME_WIDTH_CAP = 1024  # the time embedding is as wide as the transformer, but never wider
MAX_REFERENCES = 5  # rows of image_index_embedding


@dataclasses.dataclass(frozen=True)
class DitConfig:
    """The diffusion transformer, with the names of `transformer/config.json`; the defaults are the release's.

    `axes_lens` only bounds tables of the reference; we compute angles from positions, so any length works, and keep the
    value for export.
    """

    patch_size: int = 2
    in_channels: int = 16
    out_channels: int | None = None
    hidden_size: int = 2520
    num_layers: int = 32
    num_refiner_layers: int = 2
    num_attention_heads: int = 21
    num_kv_heads: int = 7
    multiple_of: int = 256
    ffn_dim_multiplier: float | None = None
    norm_eps: float = 1e-5
    axes_dim_rope: tuple[int, ...] = (40, 40, 40)
    axes_lens: tuple[int, ...] = (1024, 1664, 1664)
    text_feat_dim: int = 2048
    timestep_scale: float = 1000.0

    def __post_init__(self) -> None:
        for name in ("axes_dim_rope", "axes_lens"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        heads, axes = self.num_attention_heads, self.axes_dim_rope
        checks = (
            (self.hidden_size % heads == 0, f"{heads} heads do not divide hidden_size {self.hidden_size}"),
            (heads % self.num_kv_heads == 0, f"{self.num_kv_heads} key-value heads do not divide {heads} heads"),
            (len(axes) == 3 and not any(n % 2 for n in axes), f"axes_dim_rope {axes}: give three even numbers"),
            (sum(axes) * heads == self.hidden_size, f"axes_dim_rope {axes} do not sum to the head size"),
            (self.latent_channels_out == self.in_channels, "out_channels differs from in_channels"),
        )
        for ok, message in checks:
            if not ok:
                raise ConfigError(f"model.dit: {message}")

    @property
    def head_size(self) -> int:
        """Channels per head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def latent_channels_out(self) -> int:
        """Channels of the velocity."""
        return self.in_channels if self.out_channels is None else self.out_channels

    @property
    def mlp_width(self) -> int:
        """Inner width of the feed-forward layers."""
        width = 4 * self.hidden_size
        if self.ffn_dim_multiplier is not None:
            width = int(self.ffn_dim_multiplier * width)
        return self.multiple_of * -(-width // self.multiple_of)

    @property
    def time_width(self) -> int:
        """Width of the time embedding."""
        return min(self.hidden_size, TIME_WIDTH_CAP)

    @property
    def token_width(self) -> int:
        """Numbers in one latent token: p * p * C."""
        return self.patch_size**2 * self.in_channels


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The language model, Qwen2.5-VL's, with the names of `mllm/config.json`; the defaults are the 3B model's."""

    hidden_size: int = 2048
    intermediate_size: int = 11008
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int = 2
    vocab_size: int = 151936
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    mrope_section: tuple[int, ...] = (16, 24, 24)
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        object.__setattr__(self, "mrope_section", tuple(self.mrope_section))
        heads, kv = self.num_attention_heads, self.num_key_value_heads
        checks = (
            (self.hidden_size % heads == 0, f"{heads} heads do not divide hidden_size {self.hidden_size}"),
            (heads % kv == 0, f"{kv} key-value heads do not divide {heads} heads"),
            (
                len(self.mrope_section) == 3 and 2 * sum(self.mrope_section) == self.hidden_size // heads,
                f"mrope_section {self.mrope_section} does not sum to half the head size",
            ),
        )
        for ok, message in checks:
            if not ok:
                raise ConfigError(f"model.text: {message}")

    @property
    def head_size(self) -> int:
        """Channels per head."""
        return self.hidden_size // self.num_attention_heads


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """The vision tower of Qwen2.5-VL, with the names of `vision_config`; the defaults are the 3B model's."""

    depth: int = 32
    hidden_size: int = 1280
    num_heads: int = 16
    intermediate_size: int = 3420
    out_hidden_size: int = 2048
    in_channels: int = 3
    patch_size: int = 14
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2
    window_size: int = 112
    fullatt_block_indexes: tuple[int, ...] = (7, 15, 23, 31)
    tokens_per_second: float = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "fullatt_block_indexes", tuple(self.fullatt_block_indexes))
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 4:
            raise ConfigError(f"model.vision: {self.num_heads} heads do not fit hidden_size {self.hidden_size}")
        if self.window_size % self.stride:
            raise ConfigError(
                f"model.vision: window_size {self.window_size} is no multiple of patch x merge ({self.stride})"
            )

    @property
    def stride(self) -> int:
        """Pixels per image token on a side: pictures are resized to multiples of it."""
        return self.patch_size * self.spatial_merge_size

    @property
    def patch_width(self) -> int:
        """Numbers in one flattened patch: channels * frames * patch * patch."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2


@dataclasses.dataclass(frozen=True)
class TokenIds:
    """Ids of the special tokens; the defaults are Qwen2.5-VL's, and `img_token_id` is the one OmniGen2 adds."""

    im_start_token_id: int = 151644
    im_end_token_id: int = 151645
    pad_token_id: int = 151643
    vision_start_token_id: int = 151652
    vision_end_token_id: int = 151653
    image_token_id: int = 151655
    video_token_id: int = 151656
    img_token_id: int = 151665


@dataclasses.dataclass(frozen=True)
class OmniGen2Config:
    """An OmniGen2 model. Everything is static and hashable; the defaults are the release's sizes in float32.

    What the model is:
      dit, text, vision, vae, tokens: its parts.
      template: "official", or "bare" for vocabularies without its words: marks alone stand around texts.
      min_pixels, max_pixels: of pictures that the language model reads; the reference's in training.

    How a fresh language model begins (nothing of a model that is read from a checkpoint), as multiples of what
    text.initializer_range says:
      residual_init: the matrices that write into a residual stream. Below 1, every token begins as itself.
      merger_init: the last matrix of the vision tower. Above 1, what is seen is not drowned by what attention adds; compare
        `position_scale` of BAGEL. docs/results.md (OmniGen2) says what both do for a small model.

    How it is trained and computed:
      freeze_mllm: features reach the diffusion transformer without a gradient.
      scan_layers: layers stacked into one array and scanned (fast compilation), or unrolled (faster on CPU).
      remat: a key of `models.stack.REMAT`.
      attention: a backend of models/attention; attention_block: its query block.
      dtype: "float32" or "bfloat16", of matmul inputs and activations.
    """

    dit: DitConfig = DitConfig()
    text: TextConfig = TextConfig()
    vision: VisionConfig = VisionConfig()
    vae: AutoencoderConfig = AutoencoderConfig()
    tokens: TokenIds = TokenIds()
    template: str = "official"
    min_pixels: int = 256 * 28 * 28
    max_pixels: int = 1280 * 28 * 28
    residual_init: float = 1.0
    merger_init: float = 1.0
    freeze_mllm: bool = False
    scan_layers: bool = False
    remat: str = "none"
    attention: str = "xla"
    attention_block: int = 512
    dtype: str = "float32"

    def __post_init__(self) -> None:
        checks = (
            (self.remat in REMAT, f"remat '{self.remat}' does not exist; {hint(self.remat, REMAT, 'choose one of')}"),
            (
                self.residual_init >= 0 and self.merger_init > 0,
                f"residual_init {self.residual_init} and merger_init {self.merger_init}: multiples of a spread, not below 0",
            ),
            (self.template in ("official", "bare"), f"template '{self.template}': choose official or bare"),
            (self.dtype in ("float32", "bfloat16"), f"dtype '{self.dtype}': choose float32 or bfloat16"),
            (
                self.vision.out_hidden_size == self.text.hidden_size == self.dit.text_feat_dim,
                f"vision.out_hidden_size {self.vision.out_hidden_size}, text.hidden_size {self.text.hidden_size} and "
                f"dit.text_feat_dim {self.dit.text_feat_dim} must be equal",
            ),
            (
                self.vae.z_channels == self.dit.in_channels,
                f"vae.z_channels {self.vae.z_channels} and dit.in_channels {self.dit.in_channels} must be equal",
            ),
        )
        for ok, message in checks:
            if not ok:
                raise ConfigError(message)

    @property
    def latent_stride(self) -> int:
        """Pixels per latent token on a side."""
        return self.vae.downsample * self.dit.patch_size

    @property
    def latent_width(self) -> int:
        """Numbers in one latent token: p * p * C."""
        return self.dit.token_width

    @property
    def compute_dtype(self) -> Any:
        """`dtype` as a JAX dtype."""
        return jnp.dtype(self.dtype)

    @property
    def precision(self) -> Any:
        """float32 means float32, on accelerators that would round matmul inputs, too."""
        return jax.lax.Precision.HIGHEST if self.dtype == "float32" else None

    def fresh_std(self, name: str | None) -> float:
        """Standard deviation with which a matrix of this name begins in the language model or the vision tower."""
        scales = {"o_proj": self.residual_init, "down_proj": self.residual_init, "mlp_2": self.merger_init}
        return self.text.initializer_range * scales.get(name or "", 1.0)

    def replace(self, **changes: Any) -> "OmniGen2Config":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict; `from_dict` restores it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "OmniGen2Config":
        """From nested dicts with the field names above.

        Raises:
          ConfigError: an unknown field, or values that do not fit together.
        """
        values = dict(values)
        for name, part in _PARTS.items():
            if name in values and not isinstance(values[name], part):
                given = dict(values[name])
                made = part.from_dict(given) if part is AutoencoderConfig else make(part, given, f"model.{name}")
                values[name] = made
        return make(cls, values, "model")


_PARTS = {"dit": DitConfig, "text": TextConfig, "vision": VisionConfig, "vae": AutoencoderConfig, "tokens": TokenIds}


def make(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """A config dataclass from values.

    Raises:
      ConfigError: unknown fields, named after `where`.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    if unknown := sorted(set(values) - set(names)):
        raise ConfigError(f"{where} has no field {', '.join(unknown)}; it has {', '.join(names)}")
    return cls(**values)


def known(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a foreign config file that a dataclass has; the files hold many that do not matter."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in values.items() if name in names}
