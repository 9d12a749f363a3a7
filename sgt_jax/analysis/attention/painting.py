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

from sgt_jax.analysis.attention import allocation
from sgt_jax.analysis.attention.words import CATEGORIES, Prompt
from sgt_jax.analysis.batches import batches, canvas
from sgt_jax.analysis.spectra import spectrum
from sgt_jax.batch import TokenInfo
from sgt_jax.data import tasks
from sgt_jax.data.examples import Example
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models.family import Family, ModelConfig

# Groups of keys: words by category, then what is reported apart. Together they cover everything.
KEYS = (*CATEGORIES, "text markers", "picture markers", "latents")


class GenerationAttention(NamedTuple):
    """Of n prompts, S steps, L layers, H heads; keys in the order of KEYS.

    Attributes:
      layers: numbers of the layers.
      times: [S] the time t of each step: 1 is noise.
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
        groups = _groups(mine, batch)
        batch = {lane: batch[lane] for lane in ("und", "gen")}
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
    return jax.jit(functools.partial(_step, family.model(config), layers, ranked))


def _step(inner, layers, ranked, params, batch, groups, x, t):
    """One step of a batch: velocity [R, G, F], mass [L, R, H, 7], hidden states of latents [L, ranked, G, W]."""
    und, gen = batch["und"], batch["gen"]
    capture = [f"{kind}_{i}" for i in layers for kind in ("q", "k", "hidden")]
    x_und = inner.embed_und(params, und, None)
    x_gen = inner.embed_gen(params, x, jnp.full(x.shape[:2], t), gen["table"])
    infos = TokenInfo.of(und), TokenInfo.of(gen)
    _, h_gen, aux = inner.decode(params, x_und, x_gen, *infos, capture=tuple(capture))
    info = TokenInfo(*(jnp.concatenate(pair, axis=1) for pair in zip(*infos)))
    first, count = und["token"].shape[1], x.shape[1]
    queries = jnp.where(gen["sample"] > 0, first + jnp.arange(count), -1)
    found = allocation.layer_means(
        [aux[f"q_{i}"] for i in layers], [aux[f"k_{i}"] for i in layers], info, queries,
        jnp.ones((*queries.shape, 1)), groups,
    )  # fmt: skip
    hidden = jnp.stack([aux[f"hidden_{i}"][:ranked, first:].astype(jnp.float32) for i in layers])
    return inner.velocity(params, h_gen), found.mass[:, :, 0], hidden


def _groups(prompts: Sequence[Prompt], batch) -> np.ndarray:
    """[R, U + G, 7] membership of every slot in KEYS."""
    und, gen = batch["und"], batch["gen"]
    first, count = und["token"].shape[1], gen["sample"].shape[1]
    groups = np.zeros((len(und["token"]), first + count, len(KEYS)), np.float32)
    for row, prompt in enumerate(prompts):
        text = np.flatnonzero((und["sample"][row] > 0) & (und["split"][row] == 0))
        groups[row, text[1:-1], prompt.categories] = 1
        groups[row, text[[0, -1]], KEYS.index("text markers")] = 1
        groups[
            row, np.flatnonzero((und["sample"][row] > 0) & (und["split"][row] == 1)), KEYS.index("picture markers")
        ] = 1
        groups[row, first + np.flatnonzero(gen["sample"][row] > 0), KEYS.index("latents")] = 1
    return groups
