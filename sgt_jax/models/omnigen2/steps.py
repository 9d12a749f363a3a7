"""OmniGen2's sampler in the steps that `models.family.SamplingSteps` names.

What depends on neither time nor branch is computed once a request (context refiner, caption projection); refined noise and
references once a step for all branches; and the branches of guidance run as one batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.batch import PIXELS, PackedBatch, canvases_of
from sgt_jax.data.examples import PlanItem
from sgt_jax.data.layouts.omnigen2.layout import OmniGen2Layout
from sgt_jax.models import slots
from sgt_jax.models.autoencoder.model import to_bytes
from sgt_jax.models.family import Notify
from sgt_jax.models.guiding import with_numbers
from sgt_jax.models.layers import normal, unpatchify_latents
from sgt_jax.models.omnigen2.guidance import Guidance, Solved, advance, branches, start, time_grid
from sgt_jax.models.omnigen2.mllm import generation
from sgt_jax.models.omnigen2.model import OmniGen2

Params = Mapping[str, Any]


class Context(NamedTuple):
    """What rows have read.

    Attributes:
      prompt: of the language model.
      text, references: refined text [rows, T, D], and latent tokens of references [rows, K, p*p*C].
      text_lane, ref_lane: their facts.
      shift: [rows], where the noisy picture stands on the first rotary axis.
    """

    prompt: generation.Prompt
    text: jax.Array
    references: jax.Array
    text_lane: Mapping[str, jax.Array]
    ref_lane: Mapping[str, jax.Array]
    shift: jax.Array


class OmniGen2Steps:
    """See `models.family.SamplingSteps`. Every result has a seed of its own, whatever batch it stands in."""

    def __init__(self, model: OmniGen2, layout: OmniGen2Layout, notify: Notify | None = None) -> None:
        self._model, self._layout, self._notify = model, layout, notify

    def branches(
        self, plan: Sequence[PlanItem], thought: Sequence[int], guidance: Guidance
    ) -> tuple[Sequence[PlanItem], ...]:
        return branches(plan, thought, guidance, self._layout.encode)

    def times(self, steps: int, shift: float, shape: tuple[int, int]) -> np.ndarray:
        down = self._model.config.vae.downsample
        return time_grid(steps, (shape[0] // down) * (shape[1] // down), shift)

    def read(
        self, params: Params, batch: PackedBatch, seeds: jax.Array, guidance: Guidance | None = None
    ) -> Context:  # fmt: skip
        """References are the mean of their posteriors, or drawn by the seed of the result: a seed fixes an edit.

        Both encoders see the pictures of the main branch alone: the others have the same ones in the same slots, or none.
        """
        model, rows = self._model, len(batch["und"]["sample"])
        main = jax.tree.map(lambda x: x[: len(seeds)], batch)

        def repeated(x: jax.Array) -> jax.Array:
            return jnp.tile(x, (rows // len(seeds), *(1 for _ in x.shape[1:])))

        drawn = guidance is not None and guidance.references == "drawn"
        draws = {"vae": self._posteriors(main, seeds)} if drawn else None
        vit = main["vit"]
        seen = repeated(model.mllm.see(params["mllm"], vit)) if vit["sample"].shape[1] else None
        prompt = generation.read(model.mllm, params["mllm"], model.pointing(batch["und"]), seen)
        latents = repeated(model.clean_latents(params, main, draws)["ref"])
        features = model.features(prompt.hidden, batch["text"])
        text = model.dit.apply({"params": params["dit"]}, features, batch["text"], method="read")
        shift = (
            batch["flow"]["shift"].max(axis=1) if batch["flow"]["shift"].shape[1] else jnp.zeros(len(text), jnp.int32)
        )
        return Context(prompt, text, latents, batch["text"], batch["ref"], shift)

    def write_text(
        self, params: Params, context: Context, seeds: jax.Array, active: jax.Array, temperature: jax.Array,
        max_length: int, greedy: bool,
    ) -> tuple[jax.Array, jax.Array]:  # fmt: skip
        def pick(logits: jax.Array, step: jax.Array) -> jax.Array:
            keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), step))(seeds)
            return jax.vmap(jax.random.categorical)(keys, logits / temperature)

        stop = self._layout.template.stop
        ids, count, _ = generation.write(
            self._model.mllm, params["mllm"], context.prompt, stop, max_length - 1, None if greedy else pick, active,
            notify=self._notify,
        )  # fmt: skip
        # The opening mark stands in front, and the mark that ended a text does not count.
        last = jnp.take_along_axis(ids, jnp.maximum(count - 1, 0)[:, None], axis=1)
        # The one that asks for a picture stays.
        marks = [mark for mark in stop if mark != self._layout.template.draw]
        ended = jnp.any(last == jnp.asarray(marks, ids.dtype), axis=1) & (count > 0)
        opening = jnp.full((len(ids), 1), stop[0], ids.dtype)
        return jnp.concatenate([opening, ids], axis=1), 1 + count - ended

    def denoise(
        self, params: Params, context: Context, seeds: jax.Array, times: jax.Array, shape: tuple[int, int],
        guidance: Guidance,
    ) -> jax.Array:  # fmt: skip
        config, grid, noise = self._model.config, self._grid(shape), self._noise(seeds, shape)
        tokens = sample(self._model, params["dit"], context, noise, grid, times, guidance, self._notify)[0]
        return self._model.unscale_latent(unpatchify_latents(tokens, grid, config.dit.patch_size))

    # -- One step at a time, for a server ------------------------------------------------------------------------------

    def open_text(
        self, params: Params, batch: PackedBatch, seeds: jax.Array, temperature: jax.Array
    ) -> slots.Slots:  # fmt: skip
        vit, mllm = batch["vit"], params["mllm"]
        seen = self._model.mllm.see(mllm, vit) if vit["sample"].shape[1] else None
        prompt = generation.read(self._model.mllm, mllm, self._model.pointing(batch["und"]), seen)
        split = jnp.max(prompt.cache.info.split, axis=1)
        places = (split, prompt.order, prompt.position)
        return slots.opened(prompt.cache, prompt.logits, places, seeds, temperature)

    def feed_text(self, params: Params, state: slots.Slots, live: jax.Array) -> slots.Slots:
        new = slots.next_info(state, live)
        logits, cache = generation.feed_one(self._model.mllm, params["mllm"], state.token, new, state.cache)
        return slots.advanced(state, cache, logits)

    def stops(self) -> tuple[int, ...]:
        return tuple(self._layout.template.stop)

    def open_picture(self, params: Params, context: Context, seeds: jax.Array, shape: tuple[int, int]) -> Solved:
        return start(self._noise(seeds, shape))

    def paint_step(
        self, params: Params, context: Context, state: Solved, number: jax.Array, steps: jax.Array, times: jax.Array,
        shape: tuple[int, int], guidance: Guidance, values: Mapping[str, jax.Array],
    ) -> Solved:  # fmt: skip
        guided = with_numbers(guidance, values)
        velocities = _velocities(self._model, params["dit"], context, len(state.x), self._grid(shape))
        v = velocities(state.x, times[0])
        # A kind with more branches than a request asked for runs with a scale of 1.
        acts = guided.acts(number, steps) & (guided.text_scale > 1)
        v = jnp.where(acts, guided.combine(list(v)), v[0])
        return advance(guided.solver, state, v, *times)

    def close_picture(self, state: Solved, shape: tuple[int, int]) -> jax.Array:
        grid = self._grid(shape)
        return self._model.unscale_latent(unpatchify_latents(state.x, grid, self._model.config.dit.patch_size))

    def _grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        stride = self._model.config.latent_stride
        return shape[0] // stride, shape[1] // stride

    def _posteriors(self, batch: PackedBatch, seeds: jax.Array) -> dict[str, jax.Array]:
        """Normals for the latents of all pictures, {"HxW": [B, n, h, w, C]}; a row depends on its own seed alone."""
        config, found = self._model.config.vae, {}
        for name, (height, width) in canvases_of(batch).items():
            count = batch[PIXELS + name]["pixels"].shape[1]
            size = (height // config.downsample, width // config.downsample, config.z_channels)

            def draw(seed: jax.Array, size: tuple = size, count: int = count) -> jax.Array:
                # One key a picture, not one a row: rows are padded to the fullest of their batch.
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1 + size[0]), size[1])
                keys = [jax.random.fold_in(key, i) for i in range(count)]
                return jnp.stack([normal(key, size) for key in keys])

            if count:
                found[name] = jax.vmap(draw)(seeds)
        return found

    def _noise(self, seeds: jax.Array, shape: tuple[int, int]) -> jax.Array:
        grid = self._grid(shape)
        size = (grid[0] * grid[1], self._model.config.latent_width)
        return jax.vmap(lambda s: normal(jax.random.key(s), size))(seeds)

    # -- The autoencoder -----------------------------------------------------------------------------------------------

    def encode(self, params: Params, pixels: jax.Array) -> jax.Array:
        return jnp.split(self._model.encode_moments(params, pixels), 2, axis=-1)[0]

    def decode(self, params: Params, z: jax.Array) -> jax.Array:
        return to_bytes(self._model.decode_latent(params, z))


def gen_lane(grid: tuple[int, int], shift: jax.Array) -> dict[str, jax.Array]:
    """Facts of noisy pictures of one grid of tokens, one a row; `shift` [rows] is theirs on the first rotary axis."""
    place = jnp.stack(jnp.meshgrid(jnp.arange(grid[0]), jnp.arange(grid[1]), indexing="ij"), axis=-1).reshape(-1, 2)
    rows, count = len(shift), len(place)
    position = jnp.concatenate(
        [jnp.broadcast_to(shift[:, None, None], (rows, count, 1)), jnp.broadcast_to(place, (rows, count, 2))], axis=-1
    )
    ones = jnp.ones((rows, count), jnp.int32)
    return {"sample": ones, "split": ones * 99, "flow": ones * 0, "position": position}


def sample(
    model: OmniGen2, dit: Params, context: Context, noise: jax.Array, grid: tuple[int, int], times: jax.Array,
    guidance: Guidance, notify: Notify | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """Pictures from noise.

    Args:
      context: of `branches * B` rows, branch by branch.
      noise: [B, n, p*p*C], one picture of `grid` tokens each.
      times: [N + 1] from 0 to 1.

    Returns:
      Tokens [B, n, p*p*C] at the end; those after every step [N, B, n, p*p*C]; the branches' velocities at every step
      [N, branches, B, n, p*p*C] (those of guided branches also where guidance does not act).
    """
    count = len(noise)
    steps, velocities = len(times) - 1, _velocities(model, dit, context, count, grid)

    def one(state: Any, step: Any) -> Any:
        number, t, after = step
        if notify is not None:
            jax.debug.callback(notify, t)
        v = velocities(state.x, t)
        guided = jnp.where(guidance.acts(number, steps), guidance.combine(list(v)), v[0])
        state = advance(guidance.solver, state, guided, t, after)
        return state, (state.x, v)

    final, (path, found) = jax.lax.scan(
        one, start(noise), (jnp.arange(steps), jnp.asarray(times[:-1]), jnp.asarray(times[1:]))
    )
    return final.x, path, found


def _velocities(
    model: OmniGen2, dit: Params, context: Context, count: int, grid: tuple[int, int]
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(x [B, n, p*p*C], time) -> velocities [branches, B, n, p*p*C], for B = `count` pictures."""
    parts = len(context.text) // count
    lane = gen_lane(grid, context.shift)
    own = jax.tree.map(lambda x: x[:count], (context.references, dict(context.ref_lane), lane))

    def run(method: str, *arguments: Any) -> Any:
        return model.dit.apply({"params": dit}, *arguments, method=method)

    def many(x: jax.Array) -> jax.Array:
        return jnp.concatenate([x] * parts)

    def velocities(x: jax.Array, t: jax.Array) -> jax.Array:
        active = run("time", jnp.broadcast_to(t, (count, 1)))
        references, ref_lane, gen = own
        states, lanes = [context.text], [context.text_lane]
        if references.shape[1]:
            # Rows of the branch without references have none in their lane: its facts hide what stands there.
            states.append(many(run("refine_references", references, active, ref_lane)))
            lanes.append(context.ref_lane)
        states.append(many(run("refine_noise", x, active, gen)))
        v, _ = run("velocity", states, many(active), [*lanes, lane])
        return v.reshape(parts, count, *v.shape[1:])

    return velocities
