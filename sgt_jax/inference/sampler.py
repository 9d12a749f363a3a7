"""Answers and paintings for lists of plans: lays out, pads to fixed batches, compiles each loop once per shape."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.batch import PackedBatch
from sgt_jax.data import packing
from sgt_jax.data.examples import PlanItem
from sgt_jax.errors import ConfigError
from sgt_jax.inference import buckets
from sgt_jax.models.family import Family, Layout, Model, Notify, Params
from sgt_jax.models.sampling import SamplingSteps
from sgt_jax.parallel import partitioning, progress
from sgt_jax.parallel.distributed import fetch

Plan = Sequence[PlanItem]
_SHOWN_AT_ONCE = 1 << 20  # pixels: the autoencoder's arrays take about 1.5 kB a pixel


class Sampler:
    """Batched sampling with one model and layout.

    Every result has a seed of its own, and nothing is shared by the rows of a batch but the compiled program.

    Attributes:
      painting: the compiled (params, packed, seeds [B], times [N + 1], shape=, guidance=) -> latents [B, h, w, C].
      showing: the compiled (params, latents) -> uint8 [B, H, W, 3].
    """

    def __init__(
        self, family: Family, model: Model, layout: Layout, decode_text: Callable[[Sequence[int]], str],
        notify: Notify | None = None, mesh: jax.sharding.Mesh | None = None,
    ) -> None:  # fmt: skip
        """`notify` is called on the host in every step of a loop (with the step or the time), for progress bars.

        With a mesh, on which the parameters must lie, the rows of every batch are spread over its axes of rows.
        """
        self._mesh = mesh
        self.family, self.model, self.layout, self._decode_text = family, model, layout, decode_text
        steps = self.steps = family.steps(model, layout, notify)
        self._write = jax.jit(self._write_impl, static_argnames=("max_length", "greedy"))
        self.painting = jax.jit(self._paint_impl, static_argnames=("shape", "guidance"))
        # Apart from the loops, so that every kind of picture shares one compiled decoder.
        self.showing = jax.jit(functools.partial(show, steps))
        self._mean = jax.jit(steps.encode)

    def answer(
        self,
        params: Params,
        plans: Sequence[Plan],
        *,
        max_new_tokens: int,
        batch: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        budgets: Mapping[str, int] | None = None,
    ) -> list[str]:
        """Texts after each plan, without special tokens; greedy at temperature 0. `budgets` as in `Subject.answer`."""
        answers = self.answer_ids(
            params,
            plans,
            max_new_tokens=max_new_tokens,
            batch=batch,
            temperature=temperature,
            seeds=seeds,
            budgets=budgets,
        )
        return [self._decode_text(ids) for ids in answers]

    def answer_ids(
        self,
        params: Params,
        plans: Sequence[Plan],
        *,
        max_new_tokens: int,
        batch: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        budgets: Mapping[str, int] | None = None,
    ) -> list[list[int]]:
        """Ids of the texts after each plan, without the marks around them."""
        laid = [self.layout.lay_out(tuple(plan)) for plan in plans]
        own = dict.fromkeys(self.layout.spec, 0) if budgets else buckets.budgets(laid, self.layout.spec, batch)
        budgets = {**own, **(budgets or {})}
        seeds = list(seeds) if seeds is not None else [0] * len(laid)
        out: list[list[int]] = []
        progress.count(len(laid))
        for part, numbers in _batches(laid, seeds, batch):
            real = len(part)
            rows = packing.stack_samples([*part, *[{}] * (batch - real)], self.layout.spec, budgets)
            given = self._spread((rows, np.asarray([*numbers, *[0] * (batch - real)]), np.arange(batch) < real), batch)
            with self._on_mesh():
                ids, count = self._write(
                    params, *given, jnp.float32(temperature), max_length=max_new_tokens + 1, greedy=temperature <= 0
                )
            ids, count = fetch((ids, count))
            out += [ids[i, 1 : count[i]].tolist() for i in range(real)]
            progress.add(real)
        return out

    def paint(
        self,
        params: Params,
        plans: Sequence[Plan],
        shape: tuple[int, int],
        *,
        seeds: Sequence[int],
        steps: int,
        shift: float,
        batch: int,
        guidance: Any = None,
        thoughts: Sequence[Sequence[int]] | None = None,
    ) -> np.ndarray:
        """Pictures uint8 [N, H, W, 3] of one shape after each plan, by `steps` evaluations of the model each.

        Args:
          shape: (height, width).
          seeds: one per picture.
          guidance: of the family's own kind; by default there is none.
          thoughts: per picture, ids of a text that the model wrote after its plan.
        """
        guidance = self.family.guidance(text_scale=1.0) if guidance is None else guidance
        times = jnp.asarray(self.steps.times(steps, shift, shape))
        out = []
        progress.count(len(plans))
        for part, packed, numbers in self.rows(plans, seeds, guidance, batch, thoughts):
            packed, numbers = self._spread((packed, numbers), batch)
            with self._on_mesh():
                latents = self.painting(params, packed, numbers, times, shape=tuple(shape), guidance=guidance)
                out.append(fetch(self.showing(params, latents))[: len(part)])
            progress.add(len(part))
        return np.concatenate(out)

    def rows(
        self, plans: Sequence[Plan], seeds: Sequence[int], guidance: Any, batch: int,
        thoughts: Sequence[Sequence[int]] | None = None,
    ) -> Iterator[tuple[Sequence[Any], PackedBatch, np.ndarray]]:  # fmt: skip
        """What `painting` is given, `batch` pictures at a time: (what is real of them, packed branches, seeds [batch])."""
        branches = [self.steps.branches(plan, t, guidance) for plan, t in zip(plans, thoughts or [()] * len(plans))]
        laid = [tuple(self.layout.lay_out(tuple(branch)) for branch in each) for each in branches]
        budgets = buckets.budgets([sample for each in laid for sample in each], self.layout.spec, batch)
        for part, numbers in _batches(laid, list(seeds), batch):
            padding = batch - len(part)
            rows = [s for branch in zip(*part) for s in [*branch, *[{}] * padding]]
            yield part, packing.stack_samples(rows, self.layout.spec, budgets), np.asarray([*numbers, *[0] * padding])

    def _on_mesh(self) -> AbstractContextManager:
        return nullcontext() if self._mesh is None else jax.set_mesh(self._mesh)

    def _spread(self, arrays: Any, rows: int) -> Any:
        """Arrays of so many rows on the devices, spread by rows where there is a mesh. Raises ConfigError: uneven."""
        if self._mesh is None:
            return jax.tree.map(jnp.asarray, arrays)
        if rows % (parts := partitioning.shards("rows", self._mesh)):
            raise ConfigError(f"batches of {rows} cannot be shared by {parts} devices: take a multiple of {parts}")
        return jax.device_put(arrays, partitioning.batch_sharding(self._mesh))

    def through_autoencoder(self, params: Params, pictures: Sequence[np.ndarray], batch: int = 64) -> np.ndarray:
        """uint8 [N, H, W, 3] pictures of one size, encoded (posterior mean) and decoded."""
        pictures = np.stack(pictures)
        batch, out = min(batch, len(pictures)), []
        for start in range(0, len(pictures), batch):
            part = pictures[start : start + batch]
            padded = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
            out.append(fetch(self.showing(params, self._mean(params, padded)))[: len(part)])
        return np.concatenate(out)

    # -- Compiled ------------------------------------------------------------------------------------------------------

    def _write_impl(
        self, params: Params, batch: PackedBatch, seeds: jax.Array, active: jax.Array, temperature: jax.Array,
        max_length: int, greedy: bool,
    ) -> tuple[jax.Array, jax.Array]:  # fmt: skip
        context = self.steps.read(params, batch, seeds)
        return self.steps.write_text(params, context, seeds, active, temperature, max_length, greedy)

    def _paint_impl(
        self, params: Params, batch: PackedBatch, seeds: jax.Array, times: jax.Array, shape: tuple[int, int],
        guidance: Any,
    ) -> jax.Array:  # fmt: skip
        context = self.steps.read(params, batch, seeds, guidance)
        return self.steps.denoise(params, context, seeds, times, shape, guidance)


def show(steps: SamplingSteps, params: Params, latents: jax.Array) -> jax.Array:
    """Latents [B, h, w, C] decoded to uint8 [B, H, W, 3], large pictures one after another, so that memory is not B times.

    On a mesh all at once: there the rows lie on several devices.
    """
    _, height, width, _ = jax.eval_shape(steps.decode, params, latents).shape
    at_once = max(1, _SHOWN_AT_ONCE // (height * width))
    if at_once >= len(latents) or not jax.sharding.get_abstract_mesh().empty:
        return steps.decode(params, latents)
    return jax.lax.map(lambda z: steps.decode(params, z[None])[0], latents, batch_size=at_once)


def _batches(items: Sequence[Any], seeds: Sequence[int], batch: int) -> Iterator[tuple[Sequence[Any], list[int]]]:
    for start in range(0, len(items), batch):
        yield items[start : start + batch], list(seeds[start : start + batch])
