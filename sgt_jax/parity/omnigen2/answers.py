"""Section "sft": the loss of answers, its gradients, and the logits behind it."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.batch import TokenInfo
from sgt_jax.checkpoints.exporting import published_arrays
from sgt_jax.models.omnigen2.mllm.model import Mllm
from sgt_jax.models.omnigen2.mllm.names import mllm_names, published_name
from sgt_jax.parity.checks import Check
from sgt_jax.parity.omnigen2 import prompts
from sgt_jax.parity.omnigen2.folder import Folder

_FILE = "sft.npz"
_NONE = -100  # the reference's mark of a column without a label


def recorded_answers(folder: Folder, file: str, prefix: str = "") -> tuple[list[prompts.Sample], np.ndarray]:
    """The samples of a recorded batch of answers, and its padded labels; pictures are those of mllm.npz."""
    _, config = folder.mllm
    arrays = folder.arrays(file)
    ids, mask, labels, grids, rows = (
        arrays[prefix + name]
        for name in ("input_ids", "attention_mask", "labels", "image_grid_thw", "pixel_values_rows")
    )
    patches = folder.arrays("mllm.npz")["pixel_values"][slice(*rows.tolist())]
    found = prompts.recorded_pictures(patches, grids)
    return prompts.samples(ids, mask, found, config, labels), labels


def label_lane(batch: list[prompts.Sample], labels: np.ndarray) -> dict[str, np.ndarray]:
    """The labels of samples that share one row: "slot" of lane "und" that predicts each, and its "target"; [1, L]."""
    slots, targets, start = [], [], 0
    for sample, row in zip(batch, labels, strict=True):
        at = np.flatnonzero(row != _NONE)
        slots.append(start + np.searchsorted(sample.columns, at - 1))
        targets.append(row[at])
        start += len(sample.ids)
    return {"slot": np.concatenate(slots)[None], "target": np.concatenate(targets)[None]}


def answer_loss(model: Mllm, params: Any, und: Any, vit: Any, labels: Any) -> tuple[jax.Array, jax.Array]:
    """(mean cross-entropy over the labels, float32 logits [L, V]) of one row."""
    x = model.embed(params, und, model.see(params, vit) if vit else None)
    # The reference's table gives the embedding of padding no gradient.
    padding = (und["token"] == model.config.tokens.pad_token_id)[..., None]
    x = jnp.where(padding, jax.lax.stop_gradient(x), x)
    h, _ = model.run(params, x, TokenInfo.of(und), silent=und["silent"])
    logits = model.logits(params, h[0, labels["slot"][0]])
    picked = jnp.take_along_axis(logits, labels["target"][0][:, None], axis=-1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - picked), logits


def sft(folder: Folder) -> Iterator[Check]:
    """Everything recorded of one batch of answers; its samples share one row."""
    params, config = folder.mllm
    model, recorded = Mllm(config), folder.arrays(_FILE)
    check = functools.partial(folder.check, "sft", _FILE)
    batch, labels = recorded_answers(folder, _FILE)
    und, vit = prompts.lanes(batch, config, packed=True)
    lane = label_lane(batch, labels)
    places = np.ones((*labels.shape, 3), np.int64)
    places[recorded["attention_mask"] > 0] = und["position"][0][~und["silent"][0]]
    yield check("position_ids", places.transpose(2, 0, 1))

    compute = jax.jit(jax.value_and_grad(functools.partial(answer_loss, model), has_aux=True))
    (loss, logits), gradients = compute(params, und, vit, lane)
    yield check("loss", loss)
    # Recorded from the column before the answers, without the last column, which predicts nothing.
    for i, row in enumerate(labels):
        name = "logits_scored" + (f"_{i}" if i else "")
        first = int(np.sum(labels[:i] != _NONE))
        mine = np.asarray(logits)[first : first + int(np.sum(row != _NONE))]
        start = len(row) - 1 - len(recorded[name])
        at = np.flatnonzero(row != _NONE) - 1 - start
        full = recorded[name].copy()
        full[at] = mine
        yield check(name, full)
    yield from gradient_checks(folder, "sft", _FILE, published_arrays(gradients, mllm_names(config)))


def gradient_checks(
    folder: Folder, section: str, file: str, gradients: dict[str, np.ndarray], prefix: str = ""
) -> Iterator[Check]:
    """Full gradients and the norms of all; `gradients` are by the names on disk, those recorded by names in memory."""
    recorded = folder.arrays(file)
    start = prefix + "grad/"
    for name in recorded:
        if name.startswith(start):
            yield folder.check(section, file, name, gradients[published_name(name.removeprefix(start))])
    order = folder.json("param_order.json")["mllm"]
    norms = [np.linalg.norm(gradients[published_name(name)].astype(np.float64)) for name in order]
    yield folder.check(section, file, prefix + "grad_norms", np.asarray(norms))
