"""Answers and paintings for lists of plans: lays out, pads to fixed batches, compiles each loop once per shape."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.batch import PIXELS, PackedBatch
from sgt_jax.data import packing
from sgt_jax.data.layouts.bagel import BagelLayout
from sgt_jax.models.bagel import guidance as bagel_guidance
from sgt_jax.models.bagel import sampling
from sgt_jax.models.bagel.guidance import Guidance, Plan
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.models.layers import unpatchify_latents
from sgt_jax.parallel.distributed import fetch

Notify = Callable[[Any], None]
UNGUIDED = Guidance()


class Sampler:
    """Batched sampling with one model and layout.

    Every result has a seed of its own, and nothing is shared by the rows of a batch but the compiled program.
    """

    def __init__(
        self, model: Bagel, layout: BagelLayout, decode_text: Callable[[Sequence[int]], str],
        notify: Notify | None = None,
    ) -> None:  # fmt: skip
        """`notify` is called on the host in every step of a loop (with the step or the time), for progress bars."""
        self.model, self.layout, self._decode_text, self._notify = model, layout, decode_text, notify
        self._write = jax.jit(self._write_impl, static_argnames=("max_length", "greedy"))
        self._paint = jax.jit(self._paint_impl, static_argnames=("grid", "guidance"))
        # Apart from the loops, so that every kind of picture shares one compiled decoder.
        self._show = jax.jit(lambda params, z: sampling.to_bytes(model.decode_latent(params, z)))
        self._mean = jax.jit(lambda params, pixels: jnp.split(model.encode_moments(params, pixels), 2, axis=-1)[0])

    def answer(
        self,
        params: Any,
        plans: Sequence[Plan],
        *,
        max_new_tokens: int,
        batch: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
    ) -> list[str]:
        """Texts after each plan, without special tokens; greedy at temperature 0."""
        found = self.answer_ids(
            params, plans, max_new_tokens=max_new_tokens, batch=batch, temperature=temperature, seeds=seeds
        )
        return [self._decode_text(ids) for ids in found]

    def answer_ids(
        self,
        params: Any,
        plans: Sequence[Plan],
        *,
        max_new_tokens: int,
        batch: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
    ) -> list[list[int]]:
        """Ids of the texts after each plan, without the marks around them."""
        laid = [self.layout.lay_out(tuple(plan)) for plan in plans]
        budgets = packing.lane_budgets(laid, self.layout.spec)
        seeds = list(seeds) if seeds is not None else [0] * len(laid)
        out: list[list[int]] = []
        for part, numbers in _batches(laid, seeds, batch):
            real = len(part)
            rows = packing.stack_samples([*part, *[{}] * (batch - real)], self.layout.spec, budgets)
            ids, count = self._write(
                params, rows, jnp.asarray([*numbers, *[0] * (batch - real)]), jnp.arange(batch) < real,
                jnp.float32(temperature), max_length=max_new_tokens + 1, greedy=temperature <= 0,
            )  # fmt: skip
            ids, count = fetch((ids, count))
            out += [ids[i, 1 : count[i]].tolist() for i in range(real)]
        return out

    def paint(
        self,
        params: Any,
        plans: Sequence[Plan],
        shape: tuple[int, int],
        *,
        seeds: Sequence[int],
        steps: int,
        shift: float,
        batch: int,
        guidance: Guidance = UNGUIDED,
        thoughts: Sequence[Sequence[int]] | None = None,
    ) -> np.ndarray:
        """Pictures uint8 [N, H, W, 3] of one shape after each plan, by `steps` evaluations of the model each.

        Args:
          seeds: one per picture.
          thoughts: per picture, ids of a text that the model wrote after its plan.
        """
        stride = self.model.config.latent_stride
        grid = (shape[0] // stride, shape[1] // stride)
        names = bagel_guidance.branch_names(guidance)
        read = [
            bagel_guidance.branch_plans(plan, thought) for plan, thought in zip(plans, thoughts or [()] * len(plans))
        ]
        laid = [tuple(self.layout.lay_out(tuple(branches[name])) for name in names) for branches in read]
        budgets = packing.lane_budgets([sample for branches in laid for sample in branches], self.layout.spec)
        times = jnp.asarray(bagel_guidance.time_grid(steps, shift))
        out = []
        for part, numbers in _batches(laid, list(seeds), batch):
            padding = batch - len(part)
            rows = [s for branch in zip(*part) for s in [*branch, *[{}] * padding]]
            packed = packing.stack_samples(rows, self.layout.spec, budgets)
            numbers = jnp.asarray([*numbers, *[0] * padding])
            latents = self._paint(params, packed, numbers, times, grid=grid, guidance=guidance)
            done = self._show(params, latents)
            out.append(fetch(done)[: len(part)])
        return np.concatenate(out)

    def through_autoencoder(self, params: Any, pictures: Sequence[np.ndarray], batch: int = 64) -> np.ndarray:
        """uint8 [N, H, W, 3] pictures of one size, encoded (posterior mean) and decoded."""
        pictures = np.stack(pictures)
        out = []
        for start in range(0, len(pictures), batch):
            part = pictures[start : start + batch]
            padded = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
            out.append(fetch(self._show(params, self._mean(params, padded)))[: len(part)])
        return np.concatenate(out)

    # -- Compiled ------------------------------------------------------------------------------------------------------

    def _read(self, params: Any, batch: PackedBatch, seeds: jax.Array) -> sampling.Context:
        """Reads contexts; the branches of one picture (rows i, i + B, ...) see the same draw of its pictures."""
        noise = {}
        rows = batch["und"]["sample"].shape[0]
        for lane in batch:
            if lane.startswith(PIXELS):
                count, height, width = batch[lane]["pixels"].shape[1:4]
                down = self.model.config.vae.downsample
                shape = (height // down, width // down, self.model.config.vae.z_channels)

                def draw(seed: jax.Array, shape: tuple = shape, count: int = count, height: int = height) -> jax.Array:
                    # One key per canvas: what is drawn must not depend on how many the fullest row of a batch has.
                    key = jax.random.fold_in(jax.random.key(seed), height)
                    keys = [jax.random.fold_in(jax.random.fold_in(key, shape[1]), i) for i in range(count)]
                    return jnp.stack([jax.random.normal(key, shape) for key in keys])

                if count:
                    own = jax.vmap(draw)(seeds)
                    noise[lane.removeprefix(PIXELS)] = jnp.tile(own, (rows // len(seeds), 1, 1, 1, 1))
        return sampling.read(self.model, params, batch, noise)

    def _write_impl(
        self, params: Any, batch: PackedBatch, seeds: jax.Array, active: jax.Array, temperature: jax.Array,
        max_length: int, greedy: bool,
    ) -> tuple[jax.Array, jax.Array]:  # fmt: skip
        tokens, context = self.layout.tokens, self._read(params, batch, seeds)

        def pick(logits: jax.Array, step: jax.Array) -> jax.Array:
            keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), step))(seeds)
            return jax.vmap(jax.random.categorical)(keys, logits / temperature)

        ids, count, _ = sampling.write_text(
            self.model, params, context, tokens.bos, tokens.eos, max_length, None if greedy else pick, active,
            notify=self._notify,
        )  # fmt: skip
        return ids, count

    def _paint_impl(
        self, params: Any, batch: PackedBatch, seeds: jax.Array, times: jax.Array, grid: Any, guidance: Any
    ) -> jax.Array:
        tokens, model = self.layout.tokens, self.model
        context = self._read(params, batch, seeds)
        n = grid[0] * grid[1]
        noise = jax.vmap(lambda s: jax.random.normal(jax.random.key(s), (n, model.config.latent_width)))(seeds)
        latents = sampling.denoise(
            model, params, context, noise, grid, times, guidance, tokens.soi, tokens.eoi, notify=self._notify
        )
        z = unpatchify_latents(latents, grid, model.config.latent_patch_size)
        return model.unscale_latent(z)


def _batches(items: Sequence[Any], seeds: Sequence[int], batch: int) -> Iterator[tuple[Sequence[Any], list[int]]]:
    for start in range(0, len(items), batch):
        yield items[start : start + batch], list(seeds[start : start + batch])
