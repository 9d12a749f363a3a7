"""Which words of the prompt a model looks at while it paints: attention of noisy latents over layers and times.

The picture is painted from the prompt by Euler steps without guidance, and every step's own attention is summed: the
latents are those that this model meets at that time, on its own path. Noise depends on the seed and the prompt's number
alone, so two checkpoints start from the same noise.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.analysis.attention import allocation, words
from sgt_jax.analysis.attention.words import CATEGORIES, Prompt
from sgt_jax.analysis.batches import batches, canvas
from sgt_jax.analysis.spectra import spectrum
from sgt_jax.data import tasks
from sgt_jax.data.examples import Example
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models.family import Family, ModelConfig

# Groups of keys: words by category, then what is reported apart. Together they cover everything. What a template says
# around a prompt counts as text markers.
KEYS = (*CATEGORIES, "text markers", "picture markers", "latents")


class GenerationAttention(NamedTuple):
    """Of n prompts, S steps, L layers, H heads; keys in the order of KEYS.

    Attributes:
      layers: numbers of the layers.
      times: [S] the time t of each step, noise first.
      mass: [n, S, L, H, 7] mean softmax weight of a latent on those keys.
      tokens: [n, 4] how many tokens of each category a prompt has.
      rank: [m, S, L] effective rank of the hidden states of the latents, for the first prompts of each batch.
    """

    layers: tuple[int, ...]
    times: np.ndarray
    mass: np.ndarray
    tokens: np.ndarray
    rank: np.ndarray


def generation_attention(
    model: Assistant, prompts: Sequence[Prompt], layers: Sequence[int], *, steps: int = 8, rows: int = 16,
    ranked: int = 4, seed: int = 0, shift: float | None = None,
) -> GenerationAttention:  # fmt: skip
    """Paints one picture per prompt and sums the attention of its latents at every step.

    Args:
      prompts: with the category of each token.
      layers: decoder layers.
      steps: of the painting.
      shift: of the time grid, by default the model's own; checkpoints that are compared need the same.
      rows: prompts per batch.
      ranked: of how many prompts per batch the hidden states are analysed; they are brought to the host.
      seed: of the noise.
    """
    model.family.check_analysis("attention")
    size = canvas(model)
    layout = model.layout((size,))
    sampling = model.family.steps(model.model, layout)
    times = sampling.times(steps, model.defaults["t2i"].shift if shift is None else shift, size)
    task, blank = tasks.TextToImage(model.tokenizer.encode, (size,)), np.zeros((*size, 3), np.uint8)
    samples = [task(Example(prompt.text, blank, caption=prompt.text), np.random.default_rng(0)) for prompt in prompts]
    plans = [sample.plan for sample in samples]
    step = _program(model.family, model.config, tuple(layers), ranked)
    masses, ranks = [], []
    for number, (batch, real) in enumerate(batches(plans, layout, rows)):
        mine = prompts[number * rows : number * rows + real]
        groups = _groups(mine, model.family.text_slots(batch), batch["gen"]["sample"], model.tokenizer)
        batch = {lane: batch[lane] for lane in ("und", "text", "gen", "flow") if lane in batch}
        keys = [jax.random.fold_in(jax.random.key(seed), number * rows + row) for row in range(rows)]
        shape = (batch["gen"]["sample"].shape[1], model.config.latent_width)
        x = jnp.stack([jax.random.normal(key, shape) for key in keys])
        at_steps, rank_steps = [], []
        for t, following in zip(times[:-1], times[1:]):
            velocity, mass, hidden = step(model.params, batch, groups, x, t)
            x = x - velocity * (t - following)
            at_steps.append(np.moveaxis(np.asarray(mass), 0, 1)[:real])
            own = batch["gen"]["sample"] > 0
            rank_steps.append(
                [[spectrum(h[row, own[row]]).rank for h in np.asarray(hidden)] for row in range(min(ranked, real))]
            )
        masses.append(np.stack(at_steps, axis=1))
        ranks.append(np.array(rank_steps, np.float64).reshape(steps, min(ranked, real), len(layers)).swapaxes(0, 1))
    tokens = np.array([np.bincount(prompt.categories, minlength=len(CATEGORIES)) for prompt in prompts])
    return GenerationAttention(tuple(layers), times[:-1], np.concatenate(masses), tokens, np.concatenate(ranks))


@functools.cache
def _program(family: Family, config: ModelConfig, layers: tuple[int, ...], ranked: int):
    """The compiled step; two checkpoints of one architecture share it."""
    return jax.jit(functools.partial(_step, family, family.model(config), layers, ranked))


def _step(family, inner, layers, ranked, params, batch, groups, x, t):
    """One step of a batch: velocity [R, G, F], mass [L, R, H, 7], hidden states of latents [L, ranked, G, W]."""
    velocity, seen = family.painting_attention(inner, params, batch, x, t, layers)
    count = x.shape[1]
    first = seen.q[0].shape[1] - count
    queries = jnp.where(batch["gen"]["sample"] > 0, first + jnp.arange(count), -1)
    found = allocation.layer_means(seen.q, seen.k, seen.info, queries, jnp.ones((*queries.shape, 1)), groups)
    hidden = jnp.stack([h[:ranked, first:].astype(jnp.float32) for h in seen.hidden])
    return velocity, found.mass[:, :, 0], hidden


def _groups(prompts: Sequence[Prompt], token: np.ndarray, latents: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """[R, S + G, 7] membership of every slot in KEYS: text slots [R, S] with these ids, -1 for padding, then latents."""
    first = token.shape[1]
    groups = np.zeros((len(token), first + latents.shape[1], len(KEYS)), np.float32)
    for row, prompt in enumerate(prompts):
        groups[row, np.flatnonzero(token[row] >= 0), KEYS.index("text markers")] = 1
        marks = np.flatnonzero(np.isin(token[row], (tokenizer.soi, tokenizer.eoi)))
        start = words.place(token[row], prompt.ids)
        text = np.arange(start, start + len(prompt.ids))
        groups[row, [*marks, *text], KEYS.index("text markers")] = 0
        groups[row, marks, KEYS.index("picture markers")] = 1
        groups[row, text, prompt.categories] = 1
        groups[row, first + np.flatnonzero(latents[row] > 0), KEYS.index("latents")] = 1
    return groups
