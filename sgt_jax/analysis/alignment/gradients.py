"""Per-example gradients of a loss, at the inputs of a layer's attention or for chosen shared parameters.

*Activations*: the gradient with respect to the output of a pre-attention RMSNorm of the understanding branch, averaged over
the sample's slots. The rows of a batch do not touch each other, so one backward pass gives every example its own.
*Parameters*: one backward pass per example, over the parameters whose path matches a pattern.
"""

import argparse
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.analysis import questions
from sgt_jax.analysis.batches import Plan, batches, canvas, vit_size
from sgt_jax.batch import PackedBatch
from sgt_jax.data import tasks
from sgt_jax.errors import DataError
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models.family import Model, Params
from sgt_jax.models.stack import unstacked
from sgt_jax.parallel import progress
from sgt_jax.training.objectives import sgt
from sgt_jax.trees import path_name

MOST_NUMBERS = 500_000_000  # of gradients kept at a time: 2 GB


Canvases = tuple[tuple[int, int], ...]
Gradients = Callable[[Sequence[Plan], Canvases], np.ndarray]


def activation_gradients(model: Assistant, layer: int = 0, *, rows: int = 16, seed: int = 0) -> Gradients:
    """A function (plans, canvases) -> float32 [n, width], at the pre-attention RMSNorm of one decoder layer.

    The loss of a plan is the mean over its answer tokens plus the mean over its noisy latents; `canvases` are the sizes of
    the pictures to be painted. It compiles once per shape of batch.

    Args:
      layer: number of the decoder layer; 0 is the first. The norm is that of the understanding branch.
      rows: examples per backward pass.
      seed: of noise and times: those of example i depend on the seed and i alone.
    """
    inner, params = _unrolled(model)
    _, width = model.family.decoder_size(model.config)

    def losses(change, params, batch, draws):
        with nn.intercept_methods(_adding(change, layer)):
            return jnp.sum(_row_losses(inner, params, batch, draws))

    @jax.jit
    def step(params, batch, keys):
        slots = batch["und"]["sample"] > 0
        grads = jax.grad(losses)(jnp.zeros((*slots.shape, width)), params, batch, _draws(inner, keys, batch))
        total = jnp.sum(jnp.where(slots[..., None], grads, 0.0), axis=1)
        return total / jnp.maximum(jnp.sum(slots, axis=1), 1)[:, None]

    return lambda plans, canvases=(): _run_batches(model, plans, canvases, rows, seed, functools.partial(step, params))


def parameter_gradients(model: Assistant, pattern: str, *, rows: int = 16, seed: int = 0) -> Gradients:
    """A function (plans, canvases) -> float32 [n, P] for the parameters whose path matches `pattern`, one after the other.

    Loss, rows and seed are as in `activation_gradients`; `pattern` is a regular expression, searched in paths such as
    "decoder/layers_0/und/q_proj/kernel".

    Raises:
      DataError: no parameter matches, or (when called) the gradients would not fit into memory.
    """
    inner, params = _unrolled(model)
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    leaves, tree = jax.tree.flatten(params)
    chosen = [i for i, name in enumerate(names) if re.search(pattern, name)]
    size = sum(leaves[i].size for i in chosen)
    if not chosen:
        raise DataError(f"no parameter matches '{pattern}'; paths look like {names[0]}, {names[len(names) // 2]}")

    def loss(mine, leaves, batch, draws):
        every = list(leaves)
        for i, leaf in zip(chosen, mine):
            every[i] = leaf
        return jnp.sum(_row_losses(inner, jax.tree.unflatten(tree, every), batch, draws))

    @jax.jit
    def step(leaves, batch, keys):
        def one(example):
            grads = jax.grad(loss)([leaves[i] for i in chosen], leaves, *jax.tree.map(lambda x: x[None], example))
            return jnp.concatenate([g.astype(jnp.float32).reshape(-1) for g in grads])

        return jax.lax.map(one, (batch, _draws(inner, keys, batch)))

    def gradients(plans: Sequence[Plan], canvases: Canvases = ()) -> np.ndarray:
        if size * len(plans) > MOST_NUMBERS:
            raise DataError(
                f"'{pattern}' matches {size:,} parameters: gradients of {len(plans)} examples are more than "
                f"{MOST_NUMBERS:,} numbers; choose fewer parameters or lower --n"
            )
        return _run_batches(model, plans, canvases, rows, seed, functools.partial(step, leaves))

    return gradients


def _unrolled(model: Assistant) -> tuple[Model, Params]:
    """The model with unrolled layers, since a scanned layer has no number of its own."""
    model.family.check_analysis("align")
    if not model.config.scan_layers:
        return model.model, model.params
    params = dict(model.params)
    params |= {part: unstacked(params[part]) for part in ("vit", "decoder") if "layers" in params[part]}
    return model.family.model(model.config.replace(scan_layers=False)), params


def _adding(change: jax.Array, layer: int) -> Callable[..., Any]:
    """A flax interceptor that adds `change` [R, U, width] to the output of one RMSNorm."""
    place = (f"layers_{layer}", "und", "input_layernorm")

    def intercept(call, args, kwargs, context):
        out = call(*args, **kwargs)
        here = context.module.path[-3:] == place and context.method_name == "__call__"
        return out + change.reshape(out.shape).astype(out.dtype) if here else out

    return intercept


def _row_losses(inner: Model, params: Params, batch: PackedBatch, draws: Any) -> jax.Array:
    """[R]: per row the mean cross-entropy of its answer tokens plus the mean flow loss of its noisy latents."""
    outputs = inner.forward(params, batch, draws)
    found = sgt.token_losses(outputs, batch)
    answers = jnp.sum(batch["labels"]["weight"] > 0, axis=1)
    ce = jnp.sum(found["ce"], axis=1) / jnp.maximum(answers, 1)
    # A canvas lane without pictures has no slots: then there is nothing to take a mean of.
    flow = jnp.sum(jnp.mean(found["mse"], axis=-1), axis=1) / jnp.maximum(jnp.sum(outputs["noisy"], axis=1), 1)
    return ce + flow


def _draws(inner: Model, keys: jax.Array, batch: PackedBatch) -> Any:
    """What is random, drawn row by row: an example's noise does not depend on the batch that it stands in."""
    draws = jax.vmap(lambda key, row: inner.draw(key, jax.tree.map(lambda x: x[None], row)))(keys, batch)
    return jax.tree.map(lambda x: x[:, 0], draws)


def _run_batches(
    model: Assistant, plans: Sequence[Plan], canvases: Canvases, rows: int, seed: int, step: Any
) -> np.ndarray:
    """Runs `step` over batches and joins what it gives per row."""
    found = []
    for number, (batch, real) in enumerate(batches(plans, model.layout(canvases), rows)):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), number * rows + jnp.arange(rows))
        found.append(np.asarray(step(batch, keys))[:real])
        progress.add(real)
    return np.concatenate(found)


def mean_gradients(options: argparse.Namespace, model: Any, asked: list[questions.Question]) -> dict[str, np.ndarray]:
    """{"understanding" and each proxy: gradients [n, P]}."""
    if not 0 <= options.layer < model.family.decoder_size(model.config)[0]:
        raise DataError(f"no decoder layer {options.layer}: --layer 0 is the first")
    encode, resize, size = model.tokenizer.encode, vit_size(model), (canvas(model),)
    style = options.style or model.tokenizer.style
    kinds: dict[str, Any] = {"understanding": tasks.Understanding(encode, resize)}
    for name in options.proxies:
        extra = {"palette": options.palette} if name == "segmentation" else {}
        kinds[name] = tasks.Proxy(name, encode, resize, size, {"style": style, **extra})
    common = dict(rows=options.batch, seed=options.seed)
    if options.parameters:
        gradients = parameter_gradients(model, options.parameters, **common)
    else:
        gradients = activation_gradients(model, options.layer, **common)
    found = {}
    for name, task in kinds.items():
        rng = np.random.default_rng(options.seed)
        plans = [task(question.example, rng).plan for question in asked]
        progress.begin(f"gradients of {name}", len(plans))
        found[name] = gradients(plans, () if name == "understanding" else size)
    return found
