"""Inner states of the diffusion transformer in the order in which the reference recorded them, padded rows left out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.models.layers import rope_angles, rotation, time_features
from sgt_jax.models.omnigen2.dit import ROPE_BASE, TIME_FEATURES
from sgt_jax.parity.checks import Check
from sgt_jax.parity.omnigen2.folder import Folder
from sgt_jax.parity.omnigen2.pack import Pack, Sample, prefix_rows

FILE = "transformer.npz"
_BLOCK = re.compile(r"(context_refiner|noise_refiner|ref_image_refiner|layers)\.(\d+)(?:\.(.+))?$")
_MODULATION = {"norm1.x": 0, "norm1.gate_msa": 1, "norm1.scale_mlp": 2, "norm1.gate_mlp": 3}
_PARTS = {"attn": "o_proj", "feed_forward": "mlp", "norm_q": "q_norm"}


class States:
    """What modules gave, for rows of a scope.

    A scope is one of "text", "ref" (samples side by side), "references" (one row each), "gen", "joint"; it has the number
    of slots of each of its rows and, for "joint", the order of our slots.
    """

    def __init__(self, folder: Folder, samples: Sequence[Sample], row: Pack, inner: Mapping[str, Any]) -> None:
        self.folder, self.row, self.inner = folder, row, inner
        found = [sample.lengths(folder.dit_config.patch_size) for sample in samples]
        text, references, gen = zip(*found)
        self.lengths = {
            "text": text,
            "ref": [sum(r) for r in references],
            # A sample without references contributes one empty row.
            "references": [n for r in references for n in (r or [0])],
            "gen": gen,
            "joint": [t + sum(r) + g for t, r, g in found],
        }
        starts = {name: np.cumsum([0, *self.lengths[name]]) for name in ("text", "ref", "gen")}
        before = {"text": 0, "ref": row.features.shape[1]}
        before["gen"] = before["ref"] + row.references.shape[1]
        self.order = np.concatenate([
            before[name] + np.arange(starts[name][i], starts[name][i + 1])
            for i in range(len(samples)) for name in ("text", "ref", "gen")
        ])  # fmt: skip
        self.first = np.cumsum([0, *self.lengths["joint"]])[:-1]  # in the joint order: the first slot of every sample

    def compare(self, array: str, scope: str, slots: Any) -> Check:
        """Our slots [S, ...] (in our order) of a scope with the valid rows of a recorded array [rows, width, ...]."""
        expected = self.folder.arrays(FILE)[array]
        slots = np.asarray(slots)
        slots = slots[self.order] if scope == "joint" else slots[: sum(self.lengths[scope])]
        rows = prefix_rows(self.lengths[scope], expected.shape[1])
        return self.folder.compare("transformer", FILE, array, slots, expected[rows])

    def module(self, *path: str) -> Any:
        """The first thing that a module gave."""
        node = self.inner
        for name in path:
            node = node[name]
        return node["__call__"][0]

    def refined(self) -> np.ndarray:
        """What the joint layers start from, in our order."""
        parts = ("context_refiner", "ref_image_refiner", "noise_refiner")
        return np.concatenate([np.asarray(self.module(part)[0])[0] for part in parts if part in self.inner])


def activations(
    folder: Folder, samples: Sequence[Sample], row: Pack, out: Mapping[str, Any], inner: Mapping[str, Any]
) -> Iterator[Check]:
    """A check for every recorded `act.` array; one that we do not know fails."""
    states = States(folder, samples, row, inner)
    for array in folder.arrays(FILE):
        name = array.removeprefix("act.")
        if name == array:
            continue
        if match := _BLOCK.match(name):
            yield _block(states, array, *match.groups())
        elif name in _FACTS:
            yield _FACTS[name](states, array)
        elif name == "norm_out":
            yield states.compare(array, "joint", out["norm_out"][0])
        else:
            yield Check("transformer", array, float("inf"), 0.0, False, "an array that we do not know")


def _block(states: States, array: str, stack: str, number: str, part: str | None) -> Check:
    scope = {"context_refiner": "text", "noise_refiner": "gen", "ref_image_refiner": "references"}.get(stack, "joint")
    path = ("joint" if stack == "layers" else stack, f"layers_{number}")
    if part is None:
        return states.compare(array, scope, states.module(*path)[0][0])
    if part in _PARTS:
        found = np.asarray(states.module(*path, _PARTS[part]))
        slots = len(states.row.features[0]) + len(states.row.references[0]) + len(states.row.noisy[0])
        return states.compare(array, scope, found.reshape(slots, *found.shape[-2 if part == "norm_q" else -1 :]))
    found = np.asarray(states.module(*path, "norm1")[_MODULATION[part]])
    found = found.reshape(-1, found.shape[-1])
    if part == "norm1.x":
        return states.compare(array, scope, found)
    # Recorded once a sample: ours are per slot, so we take each sample's first.
    return states.folder.check("transformer", FILE, array, found[states.order][states.first])


def _lane(name: str, *path: str) -> Any:
    return lambda states, array: states.compare(array, name, np.asarray(states.module(*path))[0])


def _temb(states: States, array: str) -> Check:
    return states.folder.check("transformer", FILE, array, states.module("timestep_embedder")[0])


def _time_proj(states: States, array: str) -> Check:
    scale = states.folder.dit_config.timestep_scale
    return states.folder.check("transformer", FILE, array, time_features(states.row.times[0], TIME_FEATURES, scale))


def _positions(states: States) -> np.ndarray:
    lanes = states.row.lanes
    return np.concatenate([lanes[name]["position"][0] for name in ("text", "ref", "gen")])


def _position_ids(states: States, array: str) -> Check:
    expected = states.folder.arrays(FILE)[array]
    got = np.zeros_like(expected)
    got[prefix_rows(states.lengths["joint"], expected.shape[1])] = _positions(states)[states.order]
    return states.folder.check("transformer", FILE, array, got)


def _rope(which: int) -> Any:
    def check(states: States, array: str) -> Check:
        dit = states.folder.dit_config
        angles = rope_angles(_positions(states)[None], dit.head_size, ROPE_BASE, dit.axes_dim_rope)
        return states.compare(array, "joint", rotation(angles)[which][0])

    return check


def _mask(scope: str) -> Any:
    def check(states: States, array: str) -> Check:
        expected = states.folder.arrays(FILE)[array]
        return states.folder.check("transformer", FILE, array, prefix_rows(states.lengths[scope], expected.shape[1]))

    return check


def _refiner_input(states: States, array: str) -> Check:
    index = states.row.lanes["ref"]["index"][0]
    table = states.folder.dit_tensors["image_index_embedding"]
    return states.compare(array, "references", np.asarray(states.module("ref_image_patch_embedder"))[0] + table[index])


_FACTS = {
    "caption_embed": _lane("text", "caption_embedder"),
    "x_embedder": _lane("gen", "x_embedder"),
    "ref_image_patch_embedder": _lane("ref", "ref_image_patch_embedder"),
    "ref_refiner_input": _refiner_input,
    "ref_refiner_mask": _mask("references"),
    "joint_mask": _mask("joint"),
    "joint_input": lambda states, array: states.compare(array, "joint", states.refined()),
    "joint_rope_cos": _rope(0),
    "joint_rope_sin": _rope(1),
    "position_ids": _position_ids,
    "temb": _temb,
    "time_proj": _time_proj,
}
