"""How much of a model's attention goes to the picture while it reads a question and gives the right answer.

Queries are the slots that predict an answer token (teacher-forced) and, apart from them, the words of the question; keys
are the picture's tokens, and of those the share that covers the object asked about.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.analysis.attention import allocation, words
from sgt_jax.analysis.batches import batches, vit_size
from sgt_jax.analysis.questions import Question
from sgt_jax.analysis.spectra import spectrum
from sgt_jax.data import tasks
from sgt_jax.data.examples import Sample
from sgt_jax.data.pictures import resizing
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models.family import Family, ModelConfig

QUERIES = ("answer", "question")
# Groups of keys. The first three cover all; "asked object" counts a picture token by how much of it the object fills.
KEYS = ("picture", "words", "markers", "asked object")


class UnderstandingAttention(NamedTuple):
    """Of n questions, L layers, H heads; kinds of queries in the order of QUERIES, of keys in that of KEYS.

    Attributes:
      layers: numbers of the layers.
      mass: [n, L, 2, H, 4] mean softmax weight of a query of that kind on those keys; NaN for an unknown object.
      entropy: [n, L, 2, H] mean entropy over the picture's tokens, in nats.
      tokens: [n] how many picture tokens there were: ln(tokens) is the highest entropy.
      object_area: [n] share of the picture's tokens that the object fills, what even attention would give; NaN if unknown.
      rank: [m, L] effective rank of the hidden states of the picture's tokens, for the first questions of each batch.
    """

    layers: tuple[int, ...]
    mass: np.ndarray
    entropy: np.ndarray
    tokens: np.ndarray
    object_area: np.ndarray
    rank: np.ndarray


def understanding_attention(
    model: Assistant, asked: Sequence[Question], layers: Sequence[int], *, rows: int = 16, ranked: int = 4
) -> UnderstandingAttention:
    """Runs the questions with their true answers through the model and sums its attention.

    Args:
      asked: questions; see `analysis.questions`.
      layers: decoder layers.
      rows: questions per batch.
      ranked: of how many questions per batch the hidden states are analysed; they are brought to the host.
    """
    model.family.check_analysis("attention")
    resize = vit_size(model)
    task = tasks.Understanding(model.tokenizer.encode, resize)
    samples = [task(question.example, np.random.default_rng(0)) for question in asked]
    coverage = [_coverage(question, resize) for question in asked]
    layout = model.layout(())
    tokenizer = model.tokenizer
    special = jnp.asarray([tokenizer.bos, tokenizer.eos, tokenizer.soi, tokenizer.eoi])
    step = _program(model.family, model.config, tuple(layers), ranked)
    made = list(batches([sample.plan for sample in samples], layout, rows))
    kinds = [_kinds(samples[k * rows : (k + 1) * rows], batch) for k, (batch, _) in enumerate(made)]
    room = max(int(kind.any(-1).sum(1).max()) for kind in kinds)
    parts: dict[str, list[np.ndarray]] = {"mass": [], "entropy": [], "tokens": [], "object_area": [], "rank": []}
    for number, (batch, real) in enumerate(made):
        seen = batch["und"]["vit"] >= 0
        objects, known = np.zeros(seen.shape, np.float32), np.zeros(rows, bool)
        for row, found in enumerate(coverage[number * rows : number * rows + real]):
            if found is not None:
                objects[row, seen[row]], known[row] = found, True
        queries, own = _compact(kinds[number], room)
        mass, entropy, hidden = jax.device_get(step(model.params, batch, objects, queries, own, special))
        mass = np.array(np.moveaxis(mass, 0, 1)[:real], np.float64)
        mass[~known[:real], ..., KEYS.index("asked object")] = np.nan
        tokens = seen.sum(1)[:real]
        parts["mass"].append(mass)
        parts["entropy"].append(np.moveaxis(entropy, 0, 1)[:real, ..., 0])
        parts["tokens"].append(tokens)
        parts["object_area"].append(np.where(known[:real], objects.sum(1)[:real] / np.maximum(tokens, 1), np.nan))
        few = min(ranked, real)
        ranks = [[spectrum(h[row, seen[row]]).rank for h in hidden] for row in range(few)]
        parts["rank"].append(np.array(ranks, np.float64).reshape(few, len(layers)))
    return UnderstandingAttention(tuple(layers), **{name: np.concatenate(x) for name, x in parts.items()})


@functools.cache
def _program(family: Family, config: ModelConfig, layers: tuple[int, ...], ranked: int):
    """The compiled step; two checkpoints of one architecture share it."""
    return jax.jit(functools.partial(_step, family, family.model(config), layers, ranked))


def _step(family, inner, layers, ranked, params, batch, objects, queries, kinds, special):
    """One batch: mass [L, R, 2, H, 4], entropy likewise, hidden states [L, ranked, U, W]."""
    seen = family.reading_attention(inner, params, batch, layers)
    und = batch["und"]
    picture = (und["vit"] >= 0).astype(jnp.float32)
    marker = jnp.isin(und["token"], special).astype(jnp.float32)
    real = (und["sample"] > 0).astype(jnp.float32)
    groups = jnp.stack([picture, real * (1 - picture) * (1 - marker), marker, picture * objects], axis=-1)
    found = allocation.layer_means(seen.q, seen.k, seen.info, queries, kinds, groups)
    hidden = jnp.stack([h[:ranked, : picture.shape[1]].astype(jnp.float32) for h in seen.hidden])
    return found.mass, found.entropy, hidden


def _compact(kinds: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Kinds of all slots [R, U, N] -> the slots that are of any kind [R, room], padded with -1, and their kinds."""
    queries = np.full((len(kinds), room), -1, np.int32)
    for row, mine in enumerate(kinds.any(-1)):
        queries[row, : mine.sum()] = np.flatnonzero(mine)
    return queries, np.take_along_axis(kinds, np.maximum(queries, 0)[..., None], axis=1)


def _kinds(samples: Sequence[Sample], batch) -> np.ndarray:
    """bool [R, U, 2]: slots that predict a token of the answer; words of the question, without marks and template."""
    und = batch["und"]
    found = np.zeros((*und["sample"].shape, len(QUERIES)), bool)
    row, label = np.nonzero(batch["labels"]["weight"] > 0)
    found[row, batch["labels"]["slot"][row, label], 0] = True
    for row, sample in enumerate(samples):
        after = 0
        for item in sample.plan:
            if item.type == "text":
                start = words.place(und["token"][row], item.data, after)
                after = start + len(item.data)
                found[row, start:after, 1] = not item.loss
    return found


def _coverage(question: Question, resize: resizing.ResizeRule) -> np.ndarray | None:
    """How much of each picture token the asked-about object fills, [tokens] in 0..1; None if nobody knows."""
    if question.asked is None:
        return None
    mask = resize(np.repeat(question.asked[:, :, None].astype(np.uint8) * 255, 3, axis=2))[:, :, 0] > 127
    patch = resize.stride
    return mask.reshape(mask.shape[0] // patch, patch, -1, patch).mean((1, 3), dtype=np.float32).reshape(-1)
