"""BAGEL's sampler in the steps that `models.family.SamplingSteps` names; `sampling.py` holds the loops themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.batch import PIXELS, PackedBatch
from sgt_jax.data.examples import PlanItem
from sgt_jax.data.layouts.bagel import BagelLayout
from sgt_jax.models.autoencoder.model import to_bytes
from sgt_jax.models.bagel import sampling
from sgt_jax.models.bagel.guidance import Guidance, branch_names, branch_plans, time_grid
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.models.family import Notify
from sgt_jax.models.layers import unpatchify_latents

Params = Mapping[str, Any]


class BagelSteps:
    """See `models.family.SamplingSteps`. Every result has a seed of its own, whatever batch it stands in."""

    def __init__(self, model: Bagel, layout: BagelLayout, notify: Notify | None = None) -> None:
        # A run of the autoencoder alone has a layout without special tokens: they are asked for where they are needed.
        self._model, self._layout, self._notify = model, layout, notify

    def branches(
        self, plan: Sequence[PlanItem], thought: Sequence[int], guidance: Guidance
    ) -> tuple[Sequence[PlanItem], ...]:
        plans = branch_plans(plan, thought)
        return tuple(plans[name] for name in branch_names(guidance))

    def times(self, steps: int, shift: float, shape: tuple[int, int]) -> np.ndarray:
        return time_grid(steps, shift)

    def read(self, params: Params, batch: PackedBatch, seeds: jax.Array) -> sampling.Context:
        noise = {}
        for lane in batch:
            if lane.startswith(PIXELS):
                count, height, width = batch[lane]["pixels"].shape[1:4]
                down = self._model.config.vae.downsample
                shape = (height // down, width // down, self._model.config.vae.z_channels)

                def draw(seed: jax.Array, shape: tuple = shape, count: int = count, height: int = height) -> jax.Array:
                    # One key per canvas: what is drawn must not depend on how many the fullest row of a batch has.
                    key = jax.random.fold_in(jax.random.key(seed), height)
                    keys = [jax.random.fold_in(jax.random.fold_in(key, shape[1]), i) for i in range(count)]
                    return jnp.stack([jax.random.normal(key, shape) for key in keys])

                if count:
                    noise[lane.removeprefix(PIXELS)] = jax.vmap(draw)(seeds)
        # One row per seed and branch: the branches of guidance read the pictures of the main one, or none.
        return sampling.read(self._model, params, batch, noise, distinct=len(seeds))

    def write_text(
        self, params: Params, context: sampling.Context, seeds: jax.Array, active: jax.Array, temperature: jax.Array,
        max_length: int, greedy: bool,
    ) -> tuple[jax.Array, jax.Array]:  # fmt: skip
        def pick(logits: jax.Array, step: jax.Array) -> jax.Array:
            keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), step))(seeds)
            return jax.vmap(jax.random.categorical)(keys, logits / temperature)

        tokens = self._layout.tokens
        ids, count, _ = sampling.write_text(
            self._model, params, context, tokens.bos, tokens.eos, max_length, None if greedy else pick,
            active, notify=self._notify,
        )  # fmt: skip
        return ids, count

    def denoise(
        self, params: Params, context: sampling.Context, seeds: jax.Array, times: jax.Array, shape: tuple[int, int],
        guidance: Guidance,
    ) -> jax.Array:  # fmt: skip
        model, stride = self._model, self._model.config.latent_stride
        grid = (shape[0] // stride, shape[1] // stride)
        n = grid[0] * grid[1]
        noise = jax.vmap(lambda s: jax.random.normal(jax.random.key(s), (n, model.config.latent_width)))(seeds)
        tokens = self._layout.tokens
        latents = sampling.denoise(
            model, params, context, noise, grid, times, guidance, tokens.soi, tokens.eoi,
            notify=self._notify,
        )  # fmt: skip
        return model.unscale_latent(unpatchify_latents(latents, grid, model.config.latent_patch_size))

    def encode(self, params: Params, pixels: jax.Array) -> jax.Array:
        return jnp.split(self._model.encode_moments(params, pixels), 2, axis=-1)[0]

    def decode(self, params: Params, z: jax.Array) -> jax.Array:
        return to_bytes(self._model.decode_latent(params, z))
