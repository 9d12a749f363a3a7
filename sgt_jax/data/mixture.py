"""The data of a run's config: its sources, what the model is asked to do with them, and the batches that come out.

Imports no JAX: whoever builds it hands over the layout, and how to tell one autoencoder from another.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from sgt_jax.data import tasks
from sgt_jax.data.examples import Source
from sgt_jax.data.layouts import Layout
from sgt_jax.data.pictures.resizing import Canvases, ResizeRule
from sgt_jax.data.pipeline import Batches, Component
from sgt_jax.data.sources import open_source
from sgt_jax.data.stored.tokenised import Tokenised, differences
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError, hint


class Mixture:
    """Sources, tasks and batches of `config.data`.

    Attributes:
      config: the part `config.data` of a run's config.
      tokenizer, canvases, vit_size: what tasks are made with.
      tokenised: {part of the mixture: folder} where `sgt_jax tokenize` keeps targets; all that paint have one, or none.
    """

    def __init__(self, config: ConfigDict, tokenizer: Tokenizer, autoencoder: Callable[[], str]) -> None:
        """`autoencoder` gives a text that says which autoencoder the run starts from; asked for tokenised targets only."""
        self.config, self.tokenizer, self._autoencoder = config, tokenizer, autoencoder
        self.canvases = tuple(tuple(c) for c in config.canvases)
        self.vit_size = ResizeRule(**config.vit_size)
        self.tokenised = {name: part.tokenised for name, part in config.mixture.items() if part.get("tokenised")}
        self._sources: dict[str, Source] = {}
        self._opened: dict[str, Tokenised] = {}

    def source(self, name: str) -> Source:
        """One source by its name in config.data.sources, opened when it is first asked for."""
        if name not in self.config.sources:
            raise DataError(f"no source '{name}'; {hint(name, self.config.sources, 'config.data.sources has')}")
        if name not in self._sources:
            self._sources[name] = open_source(self.config.sources[name].to_dict())
        return self._sources[name]

    def task(self, spec: Mapping[str, Any], canvases: Canvases | ResizeRule | None = None) -> tasks.Task:
        """A task from its part of the config; see configs/nano.py for the fields. `canvases`: instead of the config's."""
        canvases = self.canvases if canvases is None else canvases
        return tasks.make_task(spec, encode=self.tokenizer.encode, vit_size=self.vit_size, canvases=canvases)

    def components(self) -> list[Component]:
        """The parts of the mixture, in the order of their names.

        Raises:
          DataError: tokenised targets are absent, or were made for another task or by another autoencoder.
        """
        parts = []
        for name, spec in sorted(self.config.mixture.to_dict().items()):
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
        spec = self.config.mixture[name].to_dict()
        options = {key: value for key, value in tasks.given_options(spec).items() if key != "style"}
        sizes = {
            "vit_size": spec.get("vit_size") or self.config.vit_size.to_dict(),
            "target_size": self.config.target_size.to_dict(),
        }
        # False as None: so it is in folders that were made before configs said it.
        task = {key: spec.get(key) or None for key in ("task", "proxy", "latents")}
        # What training leaves out must not come back through a folder that was made of everything.
        skip = self.config.sources.get(spec["source"], {}).get("skip") or None
        return {**task, "options": options, **sizes, "skip": skip, "autoencoder": self._autoencoder()}

    def batches(self, layout: Layout, rows: Sequence[int] | None = None) -> Batches:
        """The training data of some rows (of all by default), in the lanes of a layout."""
        data = self.config
        return Batches(
            self.components(),
            layout,
            dict(data.budgets),
            rows=data.rows,
            own_rows=rows,
            seed=data.seed,
            pool_size=data.pool_size,
            read_threads=data.read_threads,
            on_bad=data.on_bad,
            stages=data.get("stages", ()),
        )
