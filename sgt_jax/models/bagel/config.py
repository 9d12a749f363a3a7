"""What a BAGEL model is: sizes from the published config files, values that no file holds, and how to compute it."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from sgt_jax.data.layouts.bagel import SpecialTokens
from sgt_jax.errors import ConfigError, hint
from sgt_jax.models.autoencoder.model import AutoencoderConfig
from sgt_jax.models.stack import REMAT

POSITION_INIT = ("sincos", "random_codes")


@dataclasses.dataclass(frozen=True)
class LlmConfig:
    """The decoder, with Qwen2's names (`llm_config.json`); the defaults are BAGEL-7B's."""

    hidden_size: int = 3584
    intermediate_size: int = 18944
    num_hidden_layers: int = 28
    num_attention_heads: int = 28
    num_key_value_heads: int = 4
    vocab_size: int = 152064
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    max_position_embeddings: int = 32768
    initializer_range: float = 0.02

    @property
    def head_size(self) -> int:
        """Channels per head."""
        return self.hidden_size // self.num_attention_heads


@dataclasses.dataclass(frozen=True)
class VitConfig:
    """The SigLIP vision encoder, with its names (`vit_config.json`).

    `num_hidden_layers` is the file's value; see `BagelConfig.vit_layers` for how many layers are used.
    """

    hidden_size: int = 1152
    intermediate_size: int = 4304
    num_hidden_layers: int = 27
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 980
    patch_size: int = 14
    layer_norm_eps: float = 1e-6


@dataclasses.dataclass(frozen=True)
class BagelConfig:
    """A BAGEL model. Everything is static and hashable; the defaults are BAGEL-7B in float32.

    What the model is:
      llm, vit, vae, special_tokens: its parts.
      latent_patch_size: VAE latent pixels per side of one latent token.
      max_latent_size, vit_max_num_patch_per_side: entries per side of the position tables.
      vit_select_layer: which ViT layer's output is used, from the end; -2 drops the last block.
      connector_act: only "gelu_pytorch_tanh".
      interpolate_pos: rule for ViT table positions (used by the layout).
      timestep_shift: shift of the training times.

    How it is trained and computed:
      freeze_und: no gradient through the understanding set of weights (decoder); see decoder.py.
      copy_init_moe: a fresh model's generation set starts as a copy of the understanding set.
      position_init: "sincos" as in BAGEL, or "random_codes" (also for the ViT's learned table), better on small grids.
      position_seed: of the random codes.
      position_scale: standard deviation of the random codes of the two fixed tables. They are added to what the connector
        makes of a patch, which grows in training and would drown codes of size 1.
      scan_layers: layers stacked into one array and scanned (fast compilation), or unrolled (faster on CPU).
      remat: "none", "full" (keep only layer inputs), "dots" (and matmul results), or with "_offload" in host memory.
      attention: a backend of models/attention; attention_block: its query block.
      dtype: "float32" or "bfloat16", of matmul inputs and activations.
    """

    llm: LlmConfig = LlmConfig()
    vit: VitConfig = VitConfig()
    vae: AutoencoderConfig = AutoencoderConfig()
    special_tokens: SpecialTokens = SpecialTokens()
    latent_patch_size: int = 2
    max_latent_size: int = 64
    vit_max_num_patch_per_side: int = 70
    vit_select_layer: int = -2
    connector_act: str = "gelu_pytorch_tanh"
    interpolate_pos: bool = False
    timestep_shift: float = 1.0
    freeze_und: bool = False
    copy_init_moe: bool = True
    position_init: str = "sincos"
    position_seed: int = 0
    position_scale: float = 1.0
    scan_layers: bool = False
    remat: str = "none"
    attention: str = "xla"
    attention_block: int = 512
    dtype: str = "float32"

    def __post_init__(self) -> None:
        checks = (
            (self.remat in REMAT, f"remat '{self.remat}' does not exist; {hint(self.remat, REMAT, 'choose one of')}"),
            (
                self.position_init in POSITION_INIT,
                f"position_init '{self.position_init}' does not exist; choose one of {POSITION_INIT}",
            ),
            (self.dtype in ("float32", "bfloat16"), f"dtype '{self.dtype}': choose float32 or bfloat16"),
            (self.connector_act == "gelu_pytorch_tanh", f"connector_act '{self.connector_act}' is not supported"),
            (
                self.vit.image_size // self.vit.patch_size == self.vit_max_num_patch_per_side,
                f"vit image_size/patch_size is {self.vit.image_size}/{self.vit.patch_size}, but "
                f"vit_max_num_patch_per_side is {self.vit_max_num_patch_per_side}: one position indexes both tables",
            ),
            (
                self.llm.num_attention_heads % self.llm.num_key_value_heads == 0,
                f"{self.llm.num_key_value_heads} key-value heads do not divide {self.llm.num_attention_heads} heads",
            ),
            (self.vit_layers >= 0, f"vit_select_layer {self.vit_select_layer} leaves no ViT layer"),
        )
        for ok, message in checks:
            if not ok:
                raise ConfigError(message)

    @property
    def vit_layers(self) -> int:
        """ViT blocks in use: the last ones before `vit_select_layer` are neither built nor loaded."""
        return self.vit.num_hidden_layers + 1 + self.vit_select_layer

    @property
    def latent_stride(self) -> int:
        """Pixels per latent token on a side (D)."""
        return self.vae.downsample * self.latent_patch_size

    @property
    def latent_width(self) -> int:
        """Numbers in one latent token: p * p * C."""
        return self.latent_patch_size**2 * self.vae.z_channels

    @property
    def compute_dtype(self) -> Any:
        """`dtype` as a JAX dtype."""
        return jnp.dtype(self.dtype)

    @property
    def precision(self) -> Any:
        """float32 means float32, on accelerators that would round matmul inputs, too."""
        return jax.lax.Precision.HIGHEST if self.dtype == "float32" else None

    def replace(self, **changes: Any) -> "BagelConfig":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict; `from_dict` restores it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "BagelConfig":
        """From nested dicts with the field names above.

        Raises:
          ConfigError: an unknown field, or values that do not fit together.
        """
        values = dict(values)
        for name, part in _PARTS.items():
            if name in values and not isinstance(values[name], part):
                values[name] = _part(part, dict(values[name]), name)
        return _make(cls, values, "model")

    @classmethod
    def from_folder(cls, folder: Any, **changes: Any) -> "BagelConfig":
        """From a checkpoint folder in the published layout.

        Reads llm_config.json and vit_config.json, and, where present, what the official code hard-codes from
        sgt_config.json (or golden_config.json): {"model": {...}, "vae": {...}, "special_tokens": {...}}.
        """
        folder = epath.Path(folder)
        extras: dict[str, Any] = {}
        for name in ("golden_config.json", "sgt_config.json"):
            if (folder / name).exists():
                extras = json.loads((folder / name).read_text())
        values = dict(extras.get("model", {}))
        values["llm"] = _known(LlmConfig, json.loads((folder / "llm_config.json").read_text()))
        values["vit"] = _known(VitConfig, json.loads((folder / "vit_config.json").read_text()))
        for name in ("vae", "special_tokens"):
            if name in extras:
                values[name] = extras[name]
        return cls.from_dict({**values, **changes})

    def save(self, folder: Any) -> None:
        """Writes llm_config.json, vit_config.json and sgt_config.json; `from_folder` reads them."""
        folder = epath.Path(folder)
        values = self.to_dict()
        llm = {"model_type": "qwen2", "hidden_act": "silu", "tie_word_embeddings": False, "qk_norm": True}
        vit = {"model_type": "siglip_vision_model", "hidden_act": "gelu_pytorch_tanh"}
        rest = {"vae": values.pop("vae"), "special_tokens": values.pop("special_tokens")}
        for name, content in (
            ("llm_config.json", {**llm, **values.pop("llm")}),
            ("vit_config.json", {**vit, **values.pop("vit")}),
            ("sgt_config.json", {"model": values, **rest}),
        ):
            (folder / name).write_text(json.dumps(content, indent=1))


_PARTS = {"llm": LlmConfig, "vit": VitConfig, "vae": AutoencoderConfig, "special_tokens": SpecialTokens}


def _known(part: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a foreign config file that we know; the files hold many that do not matter."""
    names = {f.name for f in dataclasses.fields(part)}
    return {k: v for k, v in values.items() if k in names}


def _part(part: type, values: dict[str, Any], name: str) -> Any:
    if part is AutoencoderConfig:
        return AutoencoderConfig.from_dict(values)
    return _make(part, values, f"model.{name}")


def _make(cls: type, values: Mapping[str, Any], where: str) -> Any:
    unknown = set(values) - {f.name for f in dataclasses.fields(cls)}
    if unknown:
        raise ConfigError(f"{where} has no field {', '.join(sorted(unknown))}; it has "
                         f"{', '.join(f.name for f in dataclasses.fields(cls))}")  # fmt: skip
    return cls(**values)
