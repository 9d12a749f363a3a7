"""From a config to the parts of a run: model, tokenizer, data and loss behind one narrow face, the Experiment.

`train.py` and `evaluation/` know only this face; which family, objective and data serve a run is decided here.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from sgt_jax.assets import resource
from sgt_jax.batch import PIXELS, real_slots
from sgt_jax.data import tasks
from sgt_jax.data.layouts.bagel import BagelLayout, SpecialTokens
from sgt_jax.data.pictures import resizing
from sgt_jax.data.pipeline import Batches, Component
from sgt_jax.data.sources import open_source
from sgt_jax.data.stored.tokenised import Tokenised, differences
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError
from sgt_jax.inference.sampler import Sampler
from sgt_jax.models.autoencoder import flux_names
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.parallel import partitioning
from sgt_jax.training.objectives import sgt
from sgt_jax.trees import path_name

# Fields of config.model that change no shape: they hold for a loaded checkpoint, too.
COMPUTE_FIELDS = ("timestep_shift", "freeze_und", "scan_layers", "remat", "attention", "attention_block", "dtype")


def _is_sharding(x: Any) -> bool:
    return isinstance(x, jax.sharding.Sharding)


class Experiment:
    """Semantic generative tuning of a BAGEL model: what `train.py` needs to know of it.

    Attributes:
      model: the family's model (`init`, `draw`, `forward`).
      tokenizer, layout, canvases, vit_size: how examples become lanes.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        self.model_config = self._model_config(config)
        self.model = Bagel(self.model_config)
        self.tokenizer = Tokenizer.from_file(resource(config.data.tokenizer))
        self._sources: dict[str, Any] = {}
        self._opened: dict[str, Tokenised] = {}
        self.canvases = tuple(tuple(c) for c in config.data.canvases)
        self.vit_size = resizing.VitSize(**config.data.vit_size)
        # Where parts of the mixture keep what `sgt_jax tokenize` made of their targets; then all that paint are tokenised.
        self.tokenised = {name: part.tokenised for name, part in config.data.mixture.items() if part.get("tokenised")}
        self.layout = BagelLayout(
            tokens=SpecialTokens(self.tokenizer.bos, self.tokenizer.eos, self.tokenizer.soi, self.tokenizer.eoi),
            vit_patch=self.model_config.vit.patch_size,
            vit_side=self.model_config.vit_max_num_patch_per_side,
            latent_stride=self.model_config.latent_stride,
            latent_side=self.model_config.max_latent_size,
            canvases=() if self.tokenised else self.canvases,
            moment_width=2 * self.model_config.latent_width if self.tokenised else 0,
            latent_patch=self.model_config.latent_patch_size,
            interpolate_positions=self.model_config.interpolate_pos,
            dropout=dict(config.data.dropout),
        )

    @staticmethod
    def _model_config(config: Any) -> BagelConfig:
        if not config.init_from:
            return BagelConfig.from_dict(config.model.to_dict())
        from sgt_jax.models.bagel.published import config_from_folder

        # Sizes come from the checkpoint, never from a default that happens to load; how to compute is the run's choice.
        own = {name: config.model[name] for name in COMPUTE_FIELDS if name in config.model}
        return config_from_folder(resource(config.init_from), resource(config.init_base) or None, **own)

    @functools.cached_property
    def sampler(self) -> Sampler:
        """Answers and paintings with this model, compiled once per shape."""
        return Sampler(self.model, self.layout, self.tokenizer.decode)

    def source(self, name: str) -> Any:
        """One source by its name in config.data.sources, opened when it is first asked for."""
        if name not in self.config.data.sources:
            raise DataError(f"no source '{name}'; config.data.sources has {', '.join(self.config.data.sources)}")
        if name not in self._sources:
            self._sources[name] = open_source(self.config.data.sources[name].to_dict())
        return self._sources[name]

    def task(self, spec: dict[str, Any], canvases: Any = None) -> Any:
        """A task from its part of the config; see configs/nano.py for the fields. `canvases`: instead of the config's."""
        spec = {k: v for k, v in spec.items() if k not in ("source", "weight", "tokenised")}
        kind = spec.pop("task")
        encode = self.tokenizer.encode
        canvases = self.canvases if canvases is None else canvases
        vit_size = resizing.VitSize(**spec["vit_size"]) if spec.get("vit_size") else self.vit_size
        if kind == "proxy":
            how = {name: spec[name] for name in ("options", "latents", "photo_as_target") if name in spec}
            return tasks.Proxy(spec.pop("proxy"), encode, vit_size, canvases, **how)
        if kind == "understanding":
            return tasks.Understanding(encode, vit_size)
        if kind == "text_to_image":
            return tasks.TextToImage(encode, canvases)
        if kind == "editing":
            options = {name: spec[name] for name in ("see", "joined_rate") if name in spec}
            return tasks.Editing(encode, vit_size, canvases, **options)
        raise DataError(f"unknown task '{kind}'; there are proxy, understanding, text_to_image, editing")

    def components(self) -> list[Component]:
        """The mixture, in the order of the names.

        Raises:
          DataError: tokenised targets are absent, or were made for another task or by another autoencoder.
        """
        parts = []
        for name, spec in sorted(self.config.data.mixture.to_dict().items()):
            source = self.tokenised_source(name) if name in self.tokenised else self.source(spec["source"])
            parts.append(Component(name, source, self.task(spec), spec["weight"]))
        return parts

    def tokenised_source(self, name: str) -> Tokenised:
        """The tokenised examples of a part of the mixture, checked against this run's own settings."""
        if name not in self._opened:
            source = Tokenised(self.tokenised[name])
            wanted = self.tokenised_settings(name)
            if different := differences({key: source.settings.get(key) for key in wanted}, wanted):
                raise DataError(f"{source.root}: was made for another run: {different}; tokenise into another folder")
            self._opened[name] = source
        return self._opened[name]

    def tokenised_settings(self, name: str) -> dict[str, Any]:
        """What tokenised targets of a part of the mixture depend on: the task, its sizes, and the autoencoder."""
        data = self.config.data
        spec = data.mixture[name].to_dict()
        options = {key: value for key, value in spec.get("options", {}).items() if key != "style"}
        sizes = {"vit_size": spec.get("vit_size") or data.vit_size.to_dict(), "target_size": data.target_size.to_dict()}
        # False as None: so it is in folders that were made before configs said it.
        task = {key: spec.get(key) or None for key in ("task", "proxy", "latents")}
        return {**task, "options": options, **sizes, "autoencoder": flux_names.fingerprint(self.vae_file())}

    def vae_file(self) -> str:
        """The file with the trained autoencoder that this run starts from.

        Raises:
          DataError: it starts with an untrained one.
        """
        config = self.config
        if config.vae_from:
            return resource(config.vae_from)
        folders = (resource(folder) for folder in (config.init_from, config.init_base) if folder)
        places = [os.path.join(folder, flux_names.VAE_FILE) for folder in folders]
        found = [path for path in places if os.path.exists(path)]
        if not found:
            raise DataError(
                f"tokenised targets need a trained autoencoder: no {flux_names.VAE_FILE} in {places or 'the config'}; "
                "set config.init_from, config.init_base or config.vae_from"
            )
        return found[0]

    def batches(self, rows: Sequence[int] | None = None) -> Batches:
        """The training data of some rows."""
        data = self.config.data
        return Batches(
            self.components(),
            self.layout,
            dict(data.budgets),
            rows=data.rows,
            own_rows=rows,
            seed=data.seed,
            pool_size=data.pool_size,
            read_threads=data.read_threads,
            on_bad=data.on_bad,
            stages=data.get("stages", ()),
        )

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters; pure, so it can be traced for shapes."""
        return self.model.init(key)

    def initial_params(self, key: jax.Array, shardings: Any) -> tuple[Any, str]:
        """Parameters that a new run starts from, each at its sharding, and a text that says where they came from.

        `config.init_from` is a folder in the published layout (`config.init_base` a second one for files that an SGT
        release lacks); `config.vae_from` is one ae.safetensors. What neither brings is initialised from `key`.

        Raises:
          CheckpointError: a file is absent, damaged, or of another model.
        """
        config = self.config
        if config.init_from:
            from sgt_jax.models.bagel.published import load_published

            by_path = {
                path_name(path): sharding
                for path, sharding in jax.tree_util.tree_leaves_with_path(shardings, is_leaf=_is_sharding)
            }
            # Masters are float32; the fixed position tables are recomputed, as the reference does in training.
            found = load_published(
                resource(config.init_from),
                self.model_config,
                base=resource(config.init_base) or None,
                sharding=lambda path, shape: by_path[path],
                dtype="float32",
                tables="recompute",
                key=key,
            )
            return found.params, found.summary
        params = jax.jit(self.init, out_shardings=shardings)(key)
        if not config.vae_from:
            return params, "all parameters initialised from the seed"
        vae = flux_names.load_vae(resource(config.vae_from), self.model_config.vae)
        vae = jax.tree.map(lambda new, sharding: jax.device_put(np.asarray(new), sharding), vae, shardings["vae"])
        return dict(params, vae=vae), f"autoencoder from {config.vae_from}, all else initialised from the seed"

    def loss(
        self, params: Any, batch: Any, key: jax.Array, part: tuple[jax.Array, int] | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The SGT objective on one global batch, or a micro-batch's share of it (see `optimizer.value_and_grad`)."""
        # Drawn and counted for the whole step: cutting it up changes neither.
        draws, counts = self.model.draw(key, batch), sgt.loss_counts(batch)
        if part is not None:
            batch, draws = partitioning.micro_batch((batch, draws), part)
        outputs = self.model.forward(params, batch, draws)
        return sgt.sgt_objective(outputs, batch, self.config.objective, counts)

    def divisible(self) -> dict[str, dict[str, int]]:
        """{logical axis: {what: size}}: what a mesh that cuts this axis up must divide."""
        model = self.model_config
        heads = {"the decoder's key-value heads": model.llm.num_key_value_heads}
        if model.vit_layers:
            heads["the ViT's heads"] = model.vit.num_attention_heads
        lanes = {f"config.data.budgets.{k}": n for k, n in self.config.data.budgets.items() if not k.startswith(PIXELS)}
        return {"heads": heads, "slots": lanes}

    def tokens(self, batch: Any) -> int:
        """Real decoder slots of a host batch."""
        return real_slots(batch["und"]) + real_slots(batch["gen"])


def build(config: Any) -> Experiment:
    """The experiment that a config describes."""
    from sgt_jax.training.objectives.autoencoder import AutoencoderExperiment

    kinds = {"sgt": Experiment, "autoencoder": AutoencoderExperiment}
    if config.objective.name not in kinds:
        raise ValueError(f"config.objective.name is '{config.objective.name}'; choose one of {', '.join(kinds)}")
    return kinds[config.objective.name](config)
