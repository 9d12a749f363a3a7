"""BAGEL's sampler in the steps that `models.family.SamplingSteps` names; `sampling.py` holds the loops themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.batch import CAUSAL, PIXELS, PackedBatch
from sgt_jax.data.examples import PlanItem
from sgt_jax.data.layouts.bagel import BagelLayout
from sgt_jax.models import slots
from sgt_jax.models.autoencoder.model import to_bytes
from sgt_jax.models.bagel import sampling
from sgt_jax.models.bagel.guidance import Guidance, branch_names, branch_plans, time_grid
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.models.family import Notify
from sgt_jax.models.guiding import with_numbers
from sgt_jax.models.layers import normal, unpatchify_latents

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

    def read(
        self, params: Params, batch: PackedBatch, seeds: jax.Array, guidance: Guidance | None = None
    ) -> sampling.Context:  # fmt: skip
        del guidance  # latents of pictures are always drawn
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
                    return jnp.stack([normal(key, shape) for key in keys])

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
        noise = self._noise(seeds, shape)
        tokens = self._layout.tokens
        latents = sampling.denoise(
            model, params, context, noise, grid, times, guidance, tokens.soi, tokens.eoi,
            notify=self._notify,
        )  # fmt: skip
        return model.unscale_latent(unpatchify_latents(latents, grid, model.config.latent_patch_size))

    # -- One step at a time, for a server ------------------------------------------------------------------------------

    def open_text(
        self, params: Params, batch: PackedBatch, seeds: jax.Array, temperature: jax.Array
    ) -> slots.Slots:  # fmt: skip
        rows, used = jnp.arange(len(seeds)), jnp.sum(jnp.asarray(batch["und"]["sample"]) > 0, axis=1)
        marked = dict(batch, und=_with_mark(batch["und"], self._layout.tokens.bos, used))
        context, states = sampling.read_with_states(self._model, params, marked, {})
        logits = self._model.logits(params, states[rows, used][:, None])[:, 0]
        # The text goes on in the split that the mark has opened.
        places = context.split - 1, context.order, context.position
        return slots.opened(context.cache, logits, places, seeds, temperature)

    def feed_text(self, params: Params, state: slots.Slots, live: jax.Array) -> slots.Slots:
        logits, cache = sampling.feed_one(self._model, params, state.token, slots.next_info(state, live), state.cache)
        return slots.advanced(state, cache, logits)

    def stops(self) -> tuple[int, ...]:
        return (self._layout.tokens.eos,)

    def open_picture(self, params: Params, context: sampling.Context, seeds: jax.Array, shape: tuple[int, int]) -> jax.Array:
        return self._noise(seeds, shape)

    def paint_step(
        self, params: Params, context: sampling.Context, state: jax.Array, number: jax.Array, steps: jax.Array,
        times: jax.Array, shape: tuple[int, int], guidance: Guidance, values: Mapping[str, jax.Array],
    ) -> jax.Array:  # fmt: skip
        tokens, stride = self._layout.tokens, self._model.config.latent_stride
        grid = (shape[0] // stride, shape[1] // stride)
        return sampling.euler_step(
            self._model, params, context, state, grid, times, guidance, with_numbers(guidance, values), tokens.soi,
            tokens.eoi,
        )  # fmt: skip

    def close_picture(self, state: jax.Array, shape: tuple[int, int]) -> jax.Array:
        stride = self._model.config.latent_stride
        grid = (shape[0] // stride, shape[1] // stride)
        return self._model.unscale_latent(unpatchify_latents(state, grid, self._model.config.latent_patch_size))

    def _noise(self, seeds: jax.Array, shape: tuple[int, int]) -> jax.Array:
        stride, width = self._model.config.latent_stride, self._model.config.latent_width
        n = (shape[0] // stride) * (shape[1] // stride)
        return jax.vmap(lambda s: normal(jax.random.key(s), (n, width)))(seeds)

    # -- The autoencoder -----------------------------------------------------------------------------------------------

    def encode(self, params: Params, pixels: jax.Array) -> jax.Array:
        return jnp.split(self._model.encode_moments(params, pixels), 2, axis=-1)[0]

    def decode(self, params: Params, z: jax.Array) -> jax.Array:
        return to_bytes(self._model.decode_latent(params, z))


def _with_mark(und: Mapping[str, jax.Array], bos: int, used: jax.Array) -> dict[str, jax.Array]:
    """Lane "und" of one sample a row with one more slot, and the mark that opens a text behind what each row has, [B]."""
    rows, real = jnp.arange(len(used)), jnp.asarray(und["sample"]) > 0

    def following(name: str) -> jax.Array:
        return jnp.max(jnp.where(real, und[name], -1), axis=1, initial=-1) + 1

    new = {"token": bos, "vit": -1, "sample": 1, "mode": CAUSAL, **{n: following(n) for n in ("split", "order", "position")}}
    return {name: jnp.pad(x, ((0, 0), (0, 1))).at[rows, used].set(new[name]) for name, x in und.items()}
