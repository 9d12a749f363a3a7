"""Parity section "loss": flow matching on recorded noise and times, with and without references, and all gradients."""

import dataclasses
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.checkpoints.exporting import published_arrays
from sgt_jax.models.omnigen2.model import OmniGen2
from sgt_jax.parity.checks import Check
from sgt_jax.parity.omnigen2.folder import Folder
from sgt_jax.parity.omnigen2.pack import Pack, Sample, cut, pack, patches
from sgt_jax.parity.omnigen2.transformer import dit_only, tree_of
from sgt_jax.training.objectives import sgt

FILE = "loss.npz"
SETTINGS = types.SimpleNamespace(ce_weight=1.0, mse_weight=1.0, ce_loss_reweighting=False, reference_scaling=False)
_NO_LABELS = {
    "slot": np.zeros((1, 0), np.int32),
    "target": np.zeros((1, 0), np.int32),
    "weight": np.zeros((1, 0), np.float32),
}
_GRADIENT = "grad/"
_FEATURES = "text_hidden_states"


def flow_batch(row: Pack, latents: Sequence[np.ndarray], noise: Sequence[np.ndarray], patch: int) -> tuple[dict, dict]:
    """(lanes "text", "ref", "gen", "flow", draws without times) of a row whose pack holds the clean latents."""
    x0 = np.zeros_like(row.noisy)
    filled = np.concatenate([patches(x, patch) for x in noise])
    x0[0, : len(filled)] = filled
    flows = row.times.shape[1]
    tokens = np.zeros((1, flows), np.int32)
    tokens[0, : len(latents)] = [(x.shape[1] // 2) * (x.shape[2] // 2) for x in latents]
    flow = {"sample": (np.arange(flows)[None] < len(latents)).astype(np.int32), "tokens": tokens}
    lanes = {
        "text": row.lanes["text"],
        "ref": row.lanes["ref"] | {"latents": row.references},
        "gen": row.lanes["gen"] | {"latents": row.noisy},
        "flow": flow,
    }
    return lanes, {"noise": x0}


def loss(folder: Folder) -> Iterator[Check]:
    """Everything in loss.npz."""
    recorded, patch = folder.arrays(FILE), folder.dit_config.patch_size
    model = OmniGen2(dit_only(folder.dit_config, **folder.changes))
    samples = _samples(recorded)
    latents, noise = [s.latent for s in samples], [recorded[f"in.x0_{i}"] for i in range(len(samples))]
    row = pack(samples, patch)
    lanes, draws = flow_batch(row, latents, noise, patch)
    times = jax.jit(model.times)(lanes["flow"], recorded["in.u"][None])
    yield folder.check("loss", FILE, "t", times[0])
    draws["t"] = recorded["t"][None]

    params = {"dit": tree_of(folder.dit_names, folder.dit_tensors)}
    step = _step(model)
    (value, outputs), gradients = step(params, row.features, lanes, draws)
    yield folder.check("loss", FILE, "loss", value)
    elements = sum(x.size for x in latents)
    yield folder.check("loss", FILE, "num_elements", np.asarray(elements))
    error = np.asarray(outputs["velocity"] - outputs["velocity_target"])[0].astype(np.float64)
    per_sample = [np.sum(x**2) for x in cut(error, samples, patch)]
    yield folder.check("loss", FILE, "loss_per_sample_sum", np.asarray(per_sample))
    for name, tokens in (("pred_{}", outputs["velocity"]), ("xt_{}", outputs["noisy_latents"])):
        for i, got in enumerate(cut(np.asarray(tokens)[0], samples, patch)):
            yield folder.check("loss", FILE, name.format(i), got)
    yield from _gradients(folder, samples, gradients)

    # Without references, in the shape of the same program.
    sizes = [x.shape[1] for x in (row.features, row.references, row.noisy, row.times)]
    alone = pack([dataclasses.replace(s, references=()) for s in samples], patch, tuple(sizes))
    lanes, bare = flow_batch(alone, latents, noise, patch)
    (value, _), (gradients, _) = step(params, alone.features, lanes, bare | {"t": draws["t"]})
    yield folder.check("loss", FILE, "norefs.loss", value)
    order = folder.json("param_order.json")["dit"]
    yield folder.check("loss", FILE, "norefs.grad_norms", norms(published(folder, gradients), order))


def _samples(recorded: Mapping[str, np.ndarray]) -> list[Sample]:
    hidden, mask = recorded["in.text_hidden_states"], recorded["in.text_attention_mask"]
    return [
        Sample(
            recorded[f"in.latent_{i}"],
            tuple(recorded[f"in.ref_{i}_{j}"] for j in range(int(recorded[f"in.num_refs_{i}"]))),
            hidden[i][mask[i] > 0],
            float(recorded["t"][i]),
        )
        for i in range(len(hidden))
    ]


def _step(model: OmniGen2) -> Any:
    """Compiled: (parameters, features, lanes, draws) -> ((loss, outputs), gradients of both)."""

    def run(params: Any, features: Any, lanes: Any, draws: Any) -> Any:
        outputs = model.flow(params, features, lanes, draws, ("noisy_latents",))
        outputs["logits"] = jnp.zeros((1, 0, 1))
        value, _ = sgt.sgt_objective(outputs, lanes | {"labels": _NO_LABELS}, SETTINGS)
        return value, {name: outputs[name] for name in ("velocity", "velocity_target", "noisy_latents")}

    return jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))


def published(folder: Folder, gradients: Any) -> dict[str, np.ndarray]:
    """A tree with the branch "dit" under the published names."""
    return published_arrays(gradients["dit"], folder.dit_names)


def norms(arrays: Mapping[str, np.ndarray], order: Sequence[str]) -> np.ndarray:
    """L2 norms of arrays in a recorded order."""
    return np.asarray([np.linalg.norm(arrays[name].astype(np.float64)) for name in order])


def _gradients(folder: Folder, samples: Sequence[Sample], gradients: Any) -> Iterator[Check]:
    of_params, of_features = gradients
    arrays, recorded = published(folder, of_params), folder.arrays(FILE)
    order = folder.json("param_order.json")["dit"]
    same = sorted(order) == sorted(arrays)
    yield Check("loss", "names of the parameters", 0.0, 0.0, same, str(sorted(set(order) ^ set(arrays))[:3]))
    yield folder.check("loss", FILE, "grad_norms", norms(arrays, order))
    for array, expected in recorded.items():
        name = array.removeprefix(_GRADIENT)
        if name == array:
            continue
        if name == _FEATURES:
            found = np.zeros_like(expected)
            found[recorded["in.text_attention_mask"] > 0] = np.asarray(of_features)[0]
            yield folder.check("loss", FILE, array, found)
        else:
            yield folder.check("loss", FILE, array, arrays[name])
