"""OmniGen2 behind the face of `models/family.py`."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.batch import PackedBatch, TokenInfo
from sgt_jax.checkpoints.names import NameMap, below
from sgt_jax.data.layouts.omnigen2.layout import MOST_REFERENCES, OmniGen2Layout, Template
from sgt_jax.data.layouts.omnigen2.pictures import QwenRule, Reader
from sgt_jax.data.pictures.resizing import ResizeRule
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import ConfigError
from sgt_jax.models import lora
from sgt_jax.models.attention import segment_info
from sgt_jax.models.autoencoder import diffusers_names, flux_names
from sgt_jax.models.family import Attended, Family, Kept, Loaded, Notify, Sharding, attention_names
from sgt_jax.models.omnigen2.config import OmniGen2Config
from sgt_jax.models.omnigen2.costs import OmniGen2Costs
from sgt_jax.models.omnigen2.dit_names import LORA_FILE, dit_config
from sgt_jax.models.omnigen2.guidance import Guidance, Settings
from sgt_jax.models.omnigen2.mllm.published import mllm_config
from sgt_jax.models.omnigen2.model import OmniGen2
from sgt_jax.models.omnigen2.steps import OmniGen2Steps

# Protocol constants: the weights were trained with them.
SYSTEM = "You are a helpful assistant that generates high-quality images based on user instructions."
_PARTS = ("transformer", "mllm", "vae")
_LARGEST_SIDE = 2048
_STACKS = "context_refiner|noise_refiner|ref_image_refiner|layers"  # of the transformer


class AutoencoderFolder:
    """OmniGen2 publishes its autoencoder as a diffusers folder; a file of FLUX's form is taken, too."""

    def find(self, folders: Iterable[str | os.PathLike]) -> str | None:
        places = [os.path.join(folder, "vae") for folder in folders]
        return next((path for path in places if os.path.isdir(path)), None)

    def load(self, path: str | os.PathLike, config: OmniGen2Config) -> Mapping[str, Any]:
        if os.path.isdir(path):
            return diffusers_names.load_vae(path)[0]
        return flux_names.load_vae(path, config.vae)

    def fingerprint(self, path: str | os.PathLike) -> str:
        return flux_names.fingerprint(os.path.join(path, diffusers_names.VAE_FILE) if os.path.isdir(path) else path)


@dataclasses.dataclass(frozen=True)
class OmniGen2Family(Family):
    """See `models.family.Family`."""

    name: str = "omnigen2"
    compute_fields: tuple[str, ...] = (
        "freeze_mllm", "scan_layers", "remat", "attention", "attention_block", "dtype", "template", "min_pixels",
        "max_pixels",
    )  # fmt: skip
    token_lanes: tuple[str, ...] = ("und", "gen")
    paints_any_size: bool = True
    references: int = MOST_REFERENCES

    @property
    def defaults(self) -> Mapping[str, Settings]:
        # The reference's scripts: edits lead with references in latents alone, SGT trains with pictures in the prompt.
        return {
            "chat": Settings(condition="mllm"),
            "t2i": Settings(guidance=Guidance(4.0, negative="official")),
            "edit": Settings(guidance=Guidance(5.0, 2.0, negative="official"), condition="latents"),
            "segment": Settings(guidance=Guidance(1.0), condition="mllm"),
        }

    @property
    def autoencoder(self) -> AutoencoderFolder:
        return AutoencoderFolder()

    # -- Sizes ---------------------------------------------------------------------------------------------------------

    def config(self, values: Mapping[str, Any]) -> OmniGen2Config:
        return OmniGen2Config.from_dict(values)

    def recognises(self, folder: str | os.PathLike) -> bool:
        own = ("transformer/config.json", "transformer/transformer/config.json", "model_1.safetensors", LORA_FILE)
        return any(os.path.exists(os.path.join(folder, name)) for name in own)

    def config_of_folder(
        self, folder: str | os.PathLike, base: str | os.PathLike | None = None, strip_prefix: str = "", **compute: Any
    ) -> OmniGen2Config:
        from sgt_jax.models.omnigen2.export import read_own_config
        from sgt_jax.models.omnigen2.published import part_folder

        _no_prefix(strip_prefix)
        places = {part: part_folder(part, folder, base) for part in _PARTS}
        text, vision, tokens = mllm_config(places["mllm"])
        return OmniGen2Config(
            dit=dit_config(places["transformer"]), text=text, vision=vision, tokens=tokens,
            vae=diffusers_names.vae_config(places["vae"]), **{**read_own_config(folder), **compute},
        )  # fmt: skip

    # -- Parts ---------------------------------------------------------------------------------------------------------

    def layout(
        self, config: OmniGen2Config, tokenizer: Tokenizer | None, *, canvases: Sequence[tuple[int, int]] = (),
        tokenised: bool = False, dropout: Mapping[str, float] | None = None,
    ) -> OmniGen2Layout:  # fmt: skip
        vision = config.vision
        return OmniGen2Layout(
            template=None if tokenizer is None else template(config, tokenizer),
            reader=Reader(vision.patch_size, vision.spatial_merge_size, vision.window_size),
            latent_stride=config.latent_stride,
            latent_patch=config.dit.patch_size,
            canvases=() if tokenised else tuple(tuple(canvas) for canvas in canvases),
            moment_width=2 * config.latent_width if tokenised else 0,
            dropout=dict(dropout or {}),
            encode=None if tokenizer is None else tokenizer.encode,
        )

    def model(self, config: OmniGen2Config) -> OmniGen2:
        return OmniGen2(config)

    def steps(self, model: OmniGen2, layout: OmniGen2Layout, notify: Notify | None = None) -> OmniGen2Steps:
        return OmniGen2Steps(model, layout, notify)

    def guidance(self, text_scale: float, **others: Any) -> Guidance:
        return Guidance(text_scale=text_scale, **others)

    def drawing(
        self, config: OmniGen2Config, defaults: Mapping[str, Settings], seen: bool
    ) -> tuple[int, Settings] | None:  # fmt: skip
        if config.template == "bare":
            return None
        own = defaults["edit" if seen else "t2i"]
        guidance = dataclasses.replace(own.guidance, features="words")
        return config.tokens.img_token_id, dataclasses.replace(own, guidance=guidance, condition="both")

    # -- Checkpoints ---------------------------------------------------------------------------------------------------

    def load(
        self, folder: str | os.PathLike, config: OmniGen2Config, *, base: str | os.PathLike | None = None,
        weights: str = "ema", dtype: Any = None, sharding: Sharding | None = None, training: bool = False,
        key: Any = None, strip_prefix: str = "", kept: Kept | None = None,
    ) -> Loaded:  # fmt: skip
        del weights, training, key  # it publishes one set of weights, and nothing is missing or computed
        from sgt_jax.models.omnigen2.published import load_published

        _no_prefix(strip_prefix)

        return Loaded(*load_published(folder, config, base=base, dtype=dtype, sharding=sharding, kept=kept))

    def save(
        self, params: Any, config: OmniGen2Config, out: str | os.PathLike, dtype: Any = None, *,
        copy_from: str | os.PathLike | None = None, extra_files: Iterable[str | os.PathLike] = (),
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:  # fmt: skip
        from sgt_jax.models.omnigen2.export import export_published

        export_published(params, config, out, dtype, copy_from=copy_from, extra_files=extra_files, progress=progress)

    def linears(self, config: OmniGen2Config) -> NameMap:
        """Names in memory and on disk both count; a transformer's module may stand below "transformer."."""
        from sgt_jax.models.omnigen2.dit_names import LORA_PREFIX
        from sgt_jax.models.omnigen2.mllm.names import in_memory

        dit, mllm = _linears(config)
        aliases = {alias: source for name, source in mllm.items() for alias in in_memory(name)}
        return {**{f"{LORA_PREFIX}{name}": source for name, source in dit.items()}, **dit, **mllm, **aliases}

    def adapter_modules(self, config: OmniGen2Config) -> NameMap:
        """The language model's names in memory: an adapter's file has those."""
        from sgt_jax.models.omnigen2.mllm.names import in_memory

        dit, mllm = _linears(config)
        return {**dit, **{(in_memory(name) or [name])[0]: source for name, source in mllm.items()}}

    def adapter_parts(self, config: OmniGen2Config) -> Mapping[str, lora.AdapterPart]:
        mllm = r"model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
        return {
            "und": lora.AdapterPart(mllm, "config.model.freeze_mllm" if config.freeze_mllm else ""),
            "gen": lora.AdapterPart(rf"({_STACKS})\.\d+\.attn\.(to_[qkv]|to_out\.0)"),
        }

    def projections(self, config: OmniGen2Config) -> str:
        return f"{super().projections(config)}|({_STACKS})" + r"\.\d+\.feed_forward\.linear_[123]"

    # -- Pictures ------------------------------------------------------------------------------------------------------

    def reading_rule(
        self, config: OmniGen2Config, sides: tuple[int, int], max_pixels: int | None = None
    ) -> QwenRule | ResizeRule:
        del sides  # Qwen counts pixels, not sides
        low, high = config.min_pixels, max_pixels or config.max_pixels
        return QwenRule(config.vision.stride, min(low, high), high)

    def painting_rule(self, config: OmniGen2Config) -> ResizeRule:
        return ResizeRule(config.latent_stride, config.latent_stride, _LARGEST_SIDE, 1024**2, rule="floor")

    def largest_side(self, config: OmniGen2Config) -> int:
        return _LARGEST_SIDE // config.latent_stride * config.latent_stride

    # -- Planning and analysis -----------------------------------------------------------------------------------------

    def divisible(self, config: OmniGen2Config) -> dict[str, dict[str, int]]:
        return {
            "heads": {
                "the transformer's key-value heads": config.dit.num_kv_heads,
                "the language model's key-value heads": config.text.num_key_value_heads,
                "the vision tower's heads": config.vision.num_heads,
            }
        }

    def costs(self, config: OmniGen2Config) -> OmniGen2Costs:
        return OmniGen2Costs(config)

    def decoder_size(self, config: OmniGen2Config) -> tuple[int, int]:
        return config.text.num_hidden_layers, config.text.hidden_size

    def reading_states(
        self, model: OmniGen2, params: Mapping[str, Any], batch: PackedBatch, layers: Sequence[int]
    ) -> dict[str, jax.Array]:  # fmt: skip
        last = f"block_{model.config.vision.depth - 1}"
        cells, inner = model.mllm.see(params["mllm"], batch["vit"], (last,))
        names = tuple(f"hidden_{i}" for i in layers)
        _, states = model.mllm.hidden(params["mllm"], model.pointing(batch["und"]), cells, names)
        found = {"vit": inner[last], "connector": cells}
        return found | {f"layer {i}": states[name] for i, name in zip(layers, names, strict=True)}

    def painting_layers(self, config: OmniGen2Config) -> int:
        return config.dit.num_layers

    def reading_attention(
        self, model: OmniGen2, params: Mapping[str, Any], batch: PackedBatch, layers: Sequence[int]
    ) -> Attended:  # fmt: skip
        """Of the language model's layers."""
        cells = model.mllm.see(params["mllm"], batch["vit"])
        und = model.pointing(batch["und"])
        _, found = model.mllm.hidden(params["mllm"], und, cells, attention_names(layers))
        # Who sees whom does not depend on where things stand.
        return Attended.of(found, layers, TokenInfo.of({**und, "position": und["order"]}))

    def painting_attention(
        self, model: OmniGen2, params: Mapping[str, Any], batch: PackedBatch, x: jax.Array, t: jax.Array,
        layers: Sequence[int],
    ) -> tuple[jax.Array, Attended]:  # fmt: skip
        """Of the transformer's joint layers, over the features of the prompt and the latents."""
        lanes = {"text": batch["text"], "gen": batch["gen"], "ref": batch["gen"]}
        features = model.features(model.understand(params, batch), batch["text"])
        times = jnp.full(batch["flow"]["sample"].shape, t)
        arguments = (features, jnp.zeros((len(x), 0, x.shape[-1])), x, times, lanes, attention_names(layers))
        velocity, found = model.dit.apply({"params": params["dit"]}, *arguments)
        sample = jnp.concatenate([lanes["text"]["sample"], lanes["gen"]["sample"]], axis=1)
        return velocity, Attended.of(found, layers, segment_info(sample, jnp.zeros_like(sample)))

    def text_slots(self, batch: PackedBatch) -> np.ndarray:
        token = np.take_along_axis(np.asarray(batch["und"]["token"]), batch["text"]["slot"], axis=1)
        return np.where(batch["text"]["sample"] > 0, token, -1)

    def check_analysis(self, name: str) -> None:
        if name != "attention":
            super().check_analysis(name)


def _no_prefix(strip_prefix: str) -> None:
    if strip_prefix:
        why = f"strip_prefix '{strip_prefix}': OmniGen2's reader knows the prefixes of its trainers and takes them off"
        raise ConfigError(f"{why}; leave config.init_strip_prefix or --strip-prefix away")


def _linears(config: OmniGen2Config) -> tuple[NameMap, NameMap]:
    """Linear layers of the transformer, and of the language model under their names on disk."""
    from sgt_jax.models.omnigen2.dit_names import dit_names
    from sgt_jax.models.omnigen2.mllm.names import mllm_names

    return (
        lora.linears(dict(below("dit", dit_names(config.dit, config.scan_layers).items()))),
        lora.linears(dict(below("mllm", mllm_names(config).items()))),
    )


def template(config: OmniGen2Config, tokenizer: Tokenizer) -> Template:
    """What stands around texts: the release's chat template, or, for small vocabularies, marks alone."""
    marks = dict(before=tokenizer.soi, after=tokenizer.eoi, image=config.tokens.image_token_id)
    start, end = tokenizer.bos, tokenizer.eos
    if config.template == "bare":
        return Template(system=(), user=(start,), assistant=(start,), close=(end,), stop=(end,), **marks)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text))

    tokens = config.tokens
    return Template(
        system=(start, *ids(f"system\n{SYSTEM}"), end, *ids("\n")),
        user=(start, *ids("user\n")),
        assistant=(start, *ids("assistant\n")),
        close=(end, *ids("\n")),
        stop=(end, tokens.img_token_id, tokens.pad_token_id),
        number=lambda i: ids(f"<img{i}>: "),
        draw=tokens.img_token_id,
        **marks,
    )


FAMILY = OmniGen2Family()
