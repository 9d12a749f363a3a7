"""From a config to the parts of a run: family, model, objective, data. The loop and the evaluators know only these.

A `Blueprint` is what can be traced without any data; an `Experiment` adds the tokenizer, the mixture and the weights that a
run starts from.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sgt_jax import trees
from sgt_jax.assets import resource
from sgt_jax.batch import PIXELS, PackedBatch
from sgt_jax.data.layouts import Layout
from sgt_jax.data.mixture import Mixture
from sgt_jax.data.pipeline import Batches
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import CheckpointError, ConfigError, DataError
from sgt_jax.inference.sampler import Sampler
from sgt_jax.models import family as families
from sgt_jax.models.adapting import Adaptation, adaptation
from sgt_jax.models.family import Family, Model, ModelConfig, Params
from sgt_jax.training import adapter, objectives
from sgt_jax.trees import path_name

Init = Callable[[jax.Array], Params]


class Blueprint:
    """The model and the loss of a run.

    Attributes:
      config: the run's.
      family, objective: which they are.
      model_config, model: the model.
      layout: how plans become lanes.
      loss: as `objectives.Loss`, but of (params, batch, key).
      adaptation: which adapters are trained; None trains the model itself.
    """

    def __init__(self, config: ConfigDict) -> None:
        self.config = config
        self.family: Family = families.of_config(config)
        self.objective = objectives.of_config(config)
        self.model_config: ModelConfig = self._model_config()
        self.model: Model = self.family.model(self.model_config)
        self.loss = functools.partial(self.objective.bound(config.objective), model=self.model)
        self.adaptation: Adaptation | None = self._adaptation()
        # Without canvases the pictures to paint come as moments, which `sgt_jax tokenize` made.
        self.layout: Layout = self._layout(None, tokenised=not config.data.canvases)

    def _model_config(self) -> ModelConfig:
        return self.family.config(self.config.model.to_dict())

    def _adaptation(self) -> Adaptation | None:
        if not adapter.rank(self.config):
            if self.config.get("adapter", {}).get("base_dtype"):
                raise ConfigError("config.adapter.base_dtype: without adapters no weights are frozen; set adapter.rank")
            return None
        if self.objective.branch is not None:
            raise ConfigError(f"config.adapter.rank: objective '{self.config.objective.name}' trains no linear layers; set 0")
        return adaptation(self.config.adapter, self.family, self.model_config)

    def _layout(self, tokenizer: Tokenizer | None, tokenised: bool) -> Layout:
        data = self.config.data
        canvases = tuple(tuple(canvas) for canvas in data.canvases)
        if self.objective.layout is not None:
            return self.objective.layout(canvases)
        return self.family.layout(
            self.model_config, tokenizer, canvases=canvases, tokenised=tokenised, dropout=dict(data.dropout)
        )

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters; pure, so it can be traced for shapes."""
        params, branch = self.model.init(key), self.objective.branch
        if self.adaptation is not None:
            return self.adaptation.attached(params, key)
        return params if branch is None else {branch: params[branch]}

    def divisible(self) -> dict[str, dict[str, int]]:
        """{logical axis: {what: size}}: what a mesh that cuts this axis up must divide."""
        budgets = self.config.data.budgets
        lanes = {f"config.data.budgets.{lane}": n for lane, n in budgets.items() if not lane.startswith(PIXELS)}
        return {**self.family.divisible(self.model_config), "slots": lanes}

    def tokens(self, batch: PackedBatch) -> int:
        """How many tokens a host batch holds, padding left out."""
        return self.objective.tokens(batch, self.family.token_lanes)


def model_config(config: ConfigDict) -> ModelConfig:
    """The model of a run: of `config.model`, or of the folder that the run starts from.

    Raises:
      CheckpointError: `config.init_from` is no published folder.
    """
    family = families.of_config(config)
    if not config.init_from:
        return family.config(config.model.to_dict())
    folder = resource(config.init_from)
    if os.path.isdir(os.path.join(folder, "checkpoints")):
        why = "is the work directory of a run, and config.init_from takes a published folder."
        raise CheckpointError(folder, why, f"Make one of it: python -m sgt_jax convert {folder} OUT")
    # Sizes come from the checkpoint, never from a default that happens to load; how to compute is the run's choice.
    compute = {name: config.model[name] for name in family.compute_fields if name in config.model}
    strip = config.get("init_strip_prefix", "")
    return family.config_of_folder(folder, resource(config.init_base) or None, strip_prefix=strip, **compute)


class Experiment(Blueprint):
    """A run: its blueprint, its data, and where its weights come from.

    Attributes:
      tokenizer, mixture: the data.
      canvases, vit_size, source, task, components: of the mixture.
    """

    def __init__(self, config: ConfigDict) -> None:
        super().__init__(config)
        self.tokenizer = Tokenizer.from_file(resource(config.data.tokenizer))
        self.mixture = Mixture(config.data, self.tokenizer, self._autoencoder_fingerprint)
        self.layout = self._layout(self.tokenizer, tokenised=bool(self.mixture.tokenised))
        self.canvases, self.vit_size = self.mixture.canvases, self.mixture.vit_size
        self.source, self.task, self.components = self.mixture.source, self.mixture.task, self.mixture.components

    def _model_config(self) -> ModelConfig:
        return model_config(self.config)

    @functools.cached_property
    def sampler(self) -> Sampler:
        """Answers and paintings with this model, compiled once per shape."""
        # What is read before a painting has no tokenised target.
        layout = self._layout(self.tokenizer, tokenised=False) if self.mixture.tokenised else self.layout
        return Sampler(self.family, self.model, layout, self.tokenizer.decode)

    def batches(self, rows: Sequence[int] | None = None) -> Batches:
        """The training data of some rows; of all by default."""
        return self.mixture.batches(self.layout, rows)

    def vae_file(self) -> str:
        """The file with the trained autoencoder that this run starts from.

        Raises:
          DataError: it starts with an untrained one.
        """
        config = self.config
        if config.vae_from:
            return resource(config.vae_from)
        folders = [resource(folder) for folder in (config.init_from, config.init_base) if folder]
        file = self.family.autoencoder.find(folders)
        if file is None:
            raise DataError(
                f"tokenised targets need a trained autoencoder, and there is none in {folders or 'the config'}; "
                "set config.init_from, config.init_base or config.vae_from"
            )
        return file

    def _autoencoder_fingerprint(self) -> str:
        return self.family.autoencoder.fingerprint(self.vae_file())

    def initial_params(self, key: jax.Array, shardings: Any) -> tuple[Params, str]:
        """Parameters that a new run starts from, each at its sharding, and a text that says where they came from.

        `config.init_from` is a folder in the published layout (`config.init_base` a second one for files that an SGT
        release lacks); `config.vae_from` is one file with an autoencoder. What neither brings is initialised from `key`.

        Raises:
          CheckpointError: a file is absent, damaged, or of another model.
        """
        config = self.config
        if config.init_from:
            by_path = _by_path(shardings)
            loaded = self.family.load(
                resource(config.init_from),
                self.model_config,
                base=resource(config.init_base) or None,
                dtype="float32" if self.adaptation is None else self.adaptation.dtype,  # masters are float32
                sharding=lambda path, shape: by_path[path],
                training=True,
                key=key,
                strip_prefix=config.get("init_strip_prefix", ""),
                kept=None if self.adaptation is None else functools.partial(self.adaptation.kept, places=by_path),
            )
            return self._with_adapters(loaded.params, key, by_path), loaded.summary
        params = jax.jit(self.init, out_shardings=shardings)(key)
        if not config.vae_from:
            return params, "all parameters initialised from the seed"
        vae = self.family.autoencoder.load(resource(config.vae_from), self.model_config)
        vae = jax.tree.map(lambda new, sharding: jax.device_put(np.asarray(new), sharding), vae, shardings["vae"])
        if self.adaptation is not None:
            vae = self.adaptation.cast({"vae": vae})["vae"]
        return dict(params, vae=vae), f"autoencoder from {config.vae_from}, all else initialised from the seed"

    def _with_adapters(self, params: Params, key: jax.Array, by_path: Mapping[str, jax.sharding.Sharding]) -> Params:
        """The parameters of a loaded base with new adapters beside them, if the run trains such."""
        if self.adaptation is None:
            return params
        places = {path: by_path[path] for path in jax.eval_shape(self.adaptation.fresh, key)}
        return trees.nested(trees.flat(params) | jax.jit(self.adaptation.fresh, out_shardings=places)(key))


def _by_path(shardings: Any) -> Mapping[str, jax.sharding.Sharding]:
    leaves = jax.tree_util.tree_leaves_with_path(shardings, is_leaf=lambda x: isinstance(x, jax.sharding.Sharding))
    return {path_name(path): sharding for path, sharding in leaves}


def build(config: ConfigDict) -> Experiment:
    """The experiment that a config describes."""
    return Experiment(config)
