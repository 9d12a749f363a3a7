"""BAGEL behind the face of `models/family.py`."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.batch import PackedBatch, TokenInfo
from sgt_jax.checkpoints.names import NameMap
from sgt_jax.data.layouts.bagel import BagelLayout, SpecialTokens
from sgt_jax.data.pictures.resizing import DEFAULT_MAX_PIXELS, ResizeRule
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import ConfigError
from sgt_jax.models import lora
from sgt_jax.models.autoencoder import flux_names
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.costs import BagelCosts
from sgt_jax.models.bagel.guidance import Guidance, Settings
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.models.bagel.steps import BagelSteps
from sgt_jax.models.family import Attended, Family, Kept, Loaded, Notify, Sharding, attention_names

# (smallest short side, largest long side) in pixels of pictures that the autoencoder reads.
_VAE_SIDES = (512, 1024)
# Files of which a published folder of BAGEL has at least one.
_FILES = ("llm_config.json", "ema.safetensors", "ema.safetensors.index.json")


class FluxFiles:
    """BAGEL publishes its autoencoder as FLUX does: ae.safetensors."""

    def find(self, folders: Iterable[str | os.PathLike]) -> str | None:
        places = [os.path.join(folder, flux_names.VAE_FILE) for folder in folders]
        return next((path for path in places if os.path.exists(path)), None)

    def load(self, path: str | os.PathLike, config: BagelConfig) -> Mapping[str, Any]:
        return flux_names.load_vae(path, config.vae)

    def fingerprint(self, path: str | os.PathLike) -> str:
        return flux_names.fingerprint(path)


@dataclasses.dataclass(frozen=True)
class BagelFamily(Family):
    """See `models.family.Family`."""

    name: str = "bagel"
    compute_fields: tuple[str, ...] = (
        "timestep_shift", "freeze_und", "scan_layers", "remat", "attention", "attention_block", "dtype",
    )  # fmt: skip
    token_lanes: tuple[str, ...] = ("und", "gen")
    thinks: bool = True

    @property
    def defaults(self) -> Mapping[str, Settings]:
        # The reference's per mode. Its segmentation is trained at 224 pixels and read at up to 980; ours reads at 224.
        painting = Guidance(4.0, 1.0, 0.4, 1.0, "global")
        return {
            "chat": Settings(vit=(378, 980)),
            "t2i": Settings(guidance=painting),
            "edit": Settings(guidance=Guidance(4.0, 2.0, 0.0, 1.0, "text_channel")),
            "segment": Settings(guidance=painting, vit=(224, 224)),
        }

    @property
    def autoencoder(self) -> FluxFiles:
        return FluxFiles()

    # -- Sizes ---------------------------------------------------------------------------------------------------------

    def config(self, values: Mapping[str, Any]) -> BagelConfig:
        return BagelConfig.from_dict(values)

    def recognises(self, folder: str | os.PathLike) -> bool:
        return any(os.path.exists(os.path.join(folder, name)) for name in _FILES)

    def config_of_folder(
        self, folder: str | os.PathLike, base: str | os.PathLike | None = None, strip_prefix: str = "", **compute: Any
    ) -> BagelConfig:
        from sgt_jax.models.bagel.published import config_from_folder

        return config_from_folder(folder, base, strip_prefix, **compute)

    def with_tokens(self, config: BagelConfig, tokenizer: Tokenizer) -> BagelConfig:
        return config.replace(special_tokens=_special_tokens(tokenizer))

    # -- Parts ---------------------------------------------------------------------------------------------------------

    def layout(
        self, config: BagelConfig, tokenizer: Tokenizer | None, *, canvases: Sequence[tuple[int, int]] = (),
        tokenised: bool = False, dropout: Mapping[str, float] | None = None,
    ) -> BagelLayout:  # fmt: skip
        if tokenizer is not None and tokenizer.size > config.llm.vocab_size:
            raise ConfigError(
                f"the tokenizer has ids up to {tokenizer.size - 1}, and the model a vocabulary of {config.llm.vocab_size}: "
                "take the tokenizer that belongs to the model"
            )
        chances = {} if dropout is None else {"dropout": dict(dropout)}
        return BagelLayout(
            tokens=config.special_tokens if tokenizer is None else _special_tokens(tokenizer),
            vit_patch=config.vit.patch_size,
            vit_side=config.vit_max_num_patch_per_side,
            latent_stride=config.latent_stride,
            latent_side=config.max_latent_size,
            canvases=() if tokenised else tuple(tuple(canvas) for canvas in canvases),
            moment_width=2 * config.latent_width if tokenised else 0,
            latent_patch=config.latent_patch_size,
            interpolate_positions=config.interpolate_pos,
            positions=config.llm.max_position_embeddings,
            **chances,
        )

    def model(self, config: BagelConfig) -> Bagel:
        return Bagel(config)

    def steps(self, model: Bagel, layout: BagelLayout, notify: Notify | None = None) -> BagelSteps:
        return BagelSteps(model, layout, notify)

    def guidance(self, text_scale: float, **others: Any) -> Guidance:
        return Guidance(text_scale=text_scale, **others)

    # -- Checkpoints ---------------------------------------------------------------------------------------------------

    def load(
        self, folder: str | os.PathLike, config: BagelConfig, *, base: str | os.PathLike | None = None,
        weights: str = "ema", dtype: Any = None, sharding: Sharding | None = None, training: bool = False,
        key: jax.Array | None = None, strip_prefix: str = "", kept: Kept | None = None,
    ) -> Loaded:  # fmt: skip
        from sgt_jax.models.bagel.published import load_published

        # The reference computes the fixed position tables anew in training, too.
        found = load_published(
            folder, config, base=base, weights=weights, dtype=dtype, sharding=sharding, key=key,
            tables="recompute" if training else "read", strip_prefix=strip_prefix, kept=kept,
        )  # fmt: skip
        return Loaded(found.params, found.summary)

    def save(
        self, params: Any, config: BagelConfig, out: str | os.PathLike, dtype: Any = None, *,
        copy_from: str | os.PathLike | None = None, extra_files: Iterable[str | os.PathLike] = (),
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:  # fmt: skip
        from sgt_jax.models.bagel.export import export_published

        export_published(params, config, out, dtype, copy_from=copy_from, extra_files=extra_files, progress=progress)

    def linears(self, config: BagelConfig) -> NameMap:
        from sgt_jax.models.bagel.names import MODEL_FILE, name_map

        return lora.linears(name_map(config, MODEL_FILE))

    def adapter_modules(self, config: BagelConfig) -> NameMap:
        return self.linears(config)

    def adapter_parts(self, config: BagelConfig) -> Mapping[str, lora.AdapterPart]:
        layer = r"language_model\.model\.layers\.\d+\."
        held = "config.model.freeze_und" if config.freeze_und else ""
        return {
            "und": lora.AdapterPart(layer + r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)", held),
            "gen": lora.AdapterPart(layer + r"(self_attn\.[qkvo]_proj_moe_gen|mlp_moe_gen\.(gate|up|down)_proj)"),
        }

    # -- Pictures ------------------------------------------------------------------------------------------------------

    def reading_rule(self, config: BagelConfig, sides: tuple[int, int], max_pixels: int | None = None) -> ResizeRule:
        stride = config.vit.patch_size
        low, high = (min(side, config.vit_max_num_patch_per_side * stride) for side in sides)
        return ResizeRule(stride, low, high, max_pixels or DEFAULT_MAX_PIXELS)

    def painting_rule(self, config: BagelConfig) -> ResizeRule:
        return ResizeRule(config.latent_stride, *(min(side, self.largest_side(config)) for side in _VAE_SIDES))

    def largest_side(self, config: BagelConfig) -> int:
        return config.max_latent_size * config.latent_stride

    # -- Planning and analysis -----------------------------------------------------------------------------------------

    def divisible(self, config: BagelConfig) -> dict[str, dict[str, int]]:
        heads = {"the decoder's key-value heads": config.llm.num_key_value_heads}
        if config.vit_layers:
            heads["the ViT's heads"] = config.vit.num_attention_heads
        return {"heads": heads}

    def costs(self, config: BagelConfig) -> BagelCosts:
        return BagelCosts(config)

    def decoder_size(self, config: BagelConfig) -> tuple[int, int]:
        return config.llm.num_hidden_layers, config.llm.hidden_size

    def reading_states(
        self, model: Bagel, params: Mapping[str, Any], batch: PackedBatch, layers: Sequence[int]
    ) -> dict[str, jax.Array]:  # fmt: skip
        names = {f"layer {i}": f"hidden_{i}" for i in layers} | {"vit": "vit_out", "connector": "connector_out"}
        out = model.forward(params, batch, model.draw(jax.random.key(0), batch), capture=tuple(names.values()))
        return {name: out[captured] for name, captured in names.items()}

    def reading_attention(
        self, model: Bagel, params: Mapping[str, Any], batch: PackedBatch, layers: Sequence[int]
    ) -> Attended:  # fmt: skip
        draws = model.draw(jax.random.key(0), batch)
        out = model.forward(params, batch, draws, capture=list(attention_names(layers)))
        return Attended.of(out, layers, TokenInfo.of(batch["und"]))

    def painting_attention(
        self, model: Bagel, params: Mapping[str, Any], batch: PackedBatch, x: jax.Array, t: jax.Array,
        layers: Sequence[int],
    ) -> tuple[jax.Array, Attended]:  # fmt: skip
        und, gen = batch["und"], batch["gen"]
        x_und = model.embed_und(params, und, None)
        x_gen = model.embed_gen(params, x, jnp.full(x.shape[:2], t), gen["table"])
        infos = TokenInfo.of(und), TokenInfo.of(gen)
        _, h_gen, aux = model.decode(params, x_und, x_gen, *infos, capture=attention_names(layers))
        info = TokenInfo(*(jnp.concatenate(pair, axis=1) for pair in zip(*infos)))
        return model.velocity(params, h_gen), Attended.of(aux, layers, info)

    def text_slots(self, batch: PackedBatch) -> np.ndarray:
        return np.where(batch["und"]["sample"] > 0, batch["und"]["token"], -1)

    def check_analysis(self, name: str) -> None:
        del name  # all there are


def _special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    return SpecialTokens(tokenizer.bos, tokenizer.eos, tokenizer.soi, tokenizer.eoi)


FAMILY = BagelFamily()
