"""Recorded micro-batches, generation or answers, as rows of one batch of lanes; every row is one micro-batch."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.models.omnigen2.config import OmniGen2Config
from sgt_jax.parity.omnigen2 import prompts
from sgt_jax.parity.omnigen2.answers import label_lane
from sgt_jax.parity.omnigen2.flow import flow_batch
from sgt_jax.parity.omnigen2.pack import Sample, pack

Lanes = dict[str, dict[str, np.ndarray]]
RECORDED = "recorded"  # a lane with draws: "u" of times and "noise"


class MicroBatch(NamedTuple):
    """One recorded micro-batch.

    Attributes:
      lanes: of one row, without padding.
      latents: the clean latents [C, h, w] of a generation micro-batch.
      lengths: of its samples' texts.
      labels: how many.
    """

    lanes: Lanes
    latents: list[np.ndarray]
    lengths: list[int]
    labels: int


def micro_batch(
    arrays: Mapping[str, np.ndarray], prefix: str, found: Sequence[prompts.Picture], config: OmniGen2Config
) -> MicroBatch:
    """The micro-batch that a file holds under a prefix; `found` are the pictures that it may use."""
    ids, mask = arrays[prefix + "input_ids"], arrays[prefix + "attention_mask"]
    labels = arrays.get(prefix + "labels")
    used = [found[i] for i in arrays[prefix + "image_index"]]
    batch = prompts.samples(ids, mask, used, config, labels)
    und, vit = prompts.lanes(batch, config, packed=True)
    lanes: Lanes = {"und": und} | ({"vit": vit} if vit else {})
    latents: list[np.ndarray] = []
    if labels is not None:
        lane = label_lane(batch, labels)
        count = lane["target"].shape[1]
        lanes["labels"] = lane | {"weight": np.ones((1, count), np.float32)}
    else:
        count = 0
        while f"{prefix}latent_{len(latents)}" in arrays:
            latents.append(arrays[f"{prefix}latent_{len(latents)}"])
        noise = [arrays[f"{prefix}x0_{i}"] for i in range(len(latents))]
        features = [np.zeros((len(sample.ids), 1), np.float32) for sample in batch]
        samples = [Sample(x, (), f, 0.0) for x, f in zip(latents, features, strict=True)]
        row = pack(samples, config.dit.patch_size)
        flow, draws = flow_batch(row, latents, noise, config.dit.patch_size)
        flow["text"]["slot"] = np.arange(row.features.shape[1], dtype=np.int32)[None]
        del flow["ref"]
        flow["flow"][RECORDED + "_u"] = arrays[prefix + "u"][None]
        flow["gen"][RECORDED + "_noise"] = draws["noise"]
        lanes |= flow
    return MicroBatch(lanes, latents, [len(sample.ids) for sample in batch], count)


def sizes(found: Sequence[MicroBatch]) -> dict[str, int]:
    """Slots of every lane that hold any of these micro-batches."""
    names = {name for one in found for name in one.lanes}
    return {
        name: max(_slots(one.lanes[name]) for one in found if name in one.lanes) for name in sorted(names)
    }  # fmt: skip


def stacked(rows: Sequence[MicroBatch | None], like: Sequence[MicroBatch], slots: Mapping[str, int]) -> Lanes:
    """Micro-batches, one a row, padded to so many slots; None is an empty row. `like` show the fields of all lanes."""
    out: Lanes = {}
    for name, size in slots.items():
        pattern = next(one.lanes[name] for one in like if name in one.lanes)
        out[name] = {}
        for field, shape in pattern.items():
            filled = np.zeros((len(rows), size, *shape.shape[2:]), shape.dtype)
            for i, row in enumerate(rows):
                if row is not None and name in row.lanes:
                    filled[i, : _slots(row.lanes[name])] = row.lanes[name][field][0]
            out[name][field] = filled
    return out


def _slots(lane: Mapping[str, Any]) -> int:
    return next(iter(lane.values())).shape[1]
